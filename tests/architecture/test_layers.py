"""The layers hold: import-linter's contracts, and the one-file rules it cannot say."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("flows", "tasks", "catalog", "dashboards")


def python_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def imported_modules(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def files_that_import(module: str) -> set[str]:
    return {
        str(path.relative_to(ROOT)) for path in python_files(*PACKAGES) if module in imported_modules(path)
    }


def test_import_contracts_hold() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]


def test_transformers_is_imported_in_one_file() -> None:
    assert files_that_import("transformers") == {"tasks/activations/models/language_model.py"}


def test_openai_is_imported_in_one_file() -> None:
    assert files_that_import("openai") == {"tasks/autointerp/client.py"}


def test_no_package_imports_the_tests() -> None:
    assert files_that_import("tests") == set()
