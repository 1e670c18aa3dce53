"""Run every benchmark of this folder, or those named: ``python -m tests.benchmarks.run [NAME]...``.

A benchmark is a module ``bench_NAME.py`` with ``main() -> str``: the lines it prints for
``RESULTS.md``. Figures are ratios inside one interleaved run; seconds of two runs are never compared.
"""

import importlib
import platform
import sys
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PACKAGES = ("torch", "transformers", "duckdb", "pyarrow", "deltalake", "prefect", "streamlit")


def names() -> list[str]:
    """The benchmarks there are."""
    return sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py"))


def machine() -> str:
    """One line: processor count, system, Python and library versions."""
    import os

    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, {versions}"


def main(wanted: list[str]) -> int:
    """Run the benchmarks; exit code 2 for an unknown name."""
    unknown = set(wanted) - set(names())
    if unknown:
        print(f"unknown benchmark {sorted(unknown)}; known: {', '.join(names())}", file=sys.stderr)
        return 2
    print(machine())
    for name in wanted or names():
        print(f"\n## {name}\n{importlib.import_module(f'tests.benchmarks.bench_{name}').main()}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
