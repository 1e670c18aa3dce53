"""How long a file, a function, a stage and a view may be, and which are longer today.

``LONGER`` only shrinks: a test fails when an entry is too low, too high or no longer needed.
"""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("flows", "tasks", "catalog", "dashboards", "tests")
FILE, FUNCTION, STAGE, VIEW = 300, 50, 60, 80
SLACK = 10

LONGER: dict[str, int] = {
    "tests/catalog/test_upkeep.py": 364,
    "tests/dashboards/synthetic.py": 514,
    "tests/dashboards/synthetic.py::explanation_rows": 79,
    "tests/dashboards/test_browser.py": 334,
    "tests/dashboards/test_pages.py": 463,
    "tests/end_to_end/test_platform.py": 332,
    "tests/fakes/openai_server.py": 319,
    "tests/fakes/openai_server.py::_handler": 76,
    "tests/golden/formats/write_peers.py::write_dictionary_learning": 52,
    "tests/golden/formats/write_peers.py::write_saelens": 169,
    "tests/golden/formats/write_published.py::write_gemma_scope": 65,
    "tests/tasks/mining/test_mine.py": 341,
}


def tracked() -> list[str]:
    """The Python files of the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *FOLDERS]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted({line for line in listed.splitlines() if line.endswith(".py") and (ROOT / line).exists()})


def is_stage(path: str) -> bool:
    return path.startswith("tasks/stages/") and not path.endswith("__init__.py")


def is_view(path: str) -> bool:
    return path.startswith("dashboards/views/")


def functions(path: str) -> Iterator[tuple[str, int]]:
    """The functions of a file and their lines; a method has the name of its class before it."""

    def walk(node: ast.AST, inside: str) -> Iterator[tuple[str, int]]:
        for child in ast.iter_child_nodes(node):
            name = inside
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{inside}.{child.name}".strip(".")
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield name, (child.end_lineno or child.lineno) - child.lineno + 1
            yield from walk(child, name)

    yield from walk(ast.parse((ROOT / path).read_text()), "")


def longer(path: str) -> dict[str, int]:
    """What of a file is over its budget: the file itself, and each function."""
    limit = STAGE if is_stage(path) else VIEW if is_view(path) else FILE
    lines = len((ROOT / path).read_text().splitlines())
    found = {path: lines} if lines > limit else {}
    return found | {f"{path}::{name}": n for name, n in functions(path) if n > FUNCTION}


def test_what_is_over_its_budget_is_listed_and_does_not_grow() -> None:
    found = {name: lines for path in tracked() for name, lines in longer(path).items()}
    grown = {name: (n, LONGER.get(name)) for name, n in sorted(found.items()) if n > LONGER.get(name, 0)}
    assert not grown, f"(lines now, lines allowed): {grown}; make it shorter"


def test_the_list_shrinks_with_the_code() -> None:
    """An entry goes when its file fits, and follows a file that became shorter by more than ``SLACK``."""
    found = {name: lines for path in tracked() for name, lines in longer(path).items()}
    stale = {name: found.get(name) for name, n in LONGER.items() if n - found.get(name, 0) > SLACK}
    assert not stale, f"set these entries of LONGER to the lines now, or remove them: {stale}"
