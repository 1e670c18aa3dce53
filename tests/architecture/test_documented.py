"""The README of a folder describes every name registered in it; the table of stages has every stage."""

import re
from pathlib import Path

import pytest

from flows.graph import NEEDS

ROOT = Path(__file__).resolve().parents[2]
REGISTERED = re.compile(r"^@([A-Z_]+)\.register\(\"([^\"]+)\"\)", re.MULTILINE)


def registered() -> list[tuple[str, str]]:
    """Each registered name with the file that registers it, read from the source."""
    files = sorted((ROOT / "tasks").rglob("*.py"))
    return [
        (str(path.relative_to(ROOT)), match[2])
        for path in files
        for match in REGISTERED.finditer(path.read_text())
    ]


def registries() -> list[str]:
    """The folder of every registry."""
    creation = re.compile(r"Registry\(\s*\"[a-z ]+\",\s*\"([a-z_.]+)\"")
    return [
        match[1].replace(".", "/")
        for path in sorted((ROOT / "tasks").rglob("*.py"))
        for match in creation.finditer(path.read_text())
    ]


def readme_of(path: str) -> Path:
    """The README beside a file, or the nearest one above it."""
    folder = (ROOT / path).parent
    while not (folder / "README.md").exists():
        folder = folder.parent
    return folder / "README.md"


def has_a_line(name: str, text: str) -> bool:
    """Whether the first cell of a table's row, or an item of a list, shows the name."""
    return re.search(rf"^\s*(\||- )[^|\n]*`{re.escape(name)}`", text, re.MULTILINE) is not None


@pytest.mark.parametrize(("path", "name"), registered(), ids=lambda value: value)
def test_registered_name_has_a_line_in_the_readme_of_its_folder(path: str, name: str) -> None:
    readme = readme_of(path)
    assert has_a_line(name, readme.read_text()), (
        f"{readme.relative_to(ROOT)} needs a row or a list item for `{name}`"
    )


@pytest.mark.parametrize("folder", registries())
def test_every_registry_has_names(folder: str) -> None:
    """The names are read from the source, so a registry must not hide from the search."""
    assert [name for path, name in registered() if path.startswith(f"{folder}/")]


def stages() -> list[str]:
    """The stages: one a file."""
    return [path.stem for path in sorted((ROOT / "tasks" / "stages").glob("[a-z]*.py"))]


@pytest.mark.parametrize("stage", stages())
def test_stage_stands_in_the_table_of_stages(stage: str) -> None:
    assert has_a_line(stage, (ROOT / "tasks" / "README.md").read_text())


def test_the_stages_are_found() -> None:
    """Every stage of the graph is a file of that name."""
    assert set(NEEDS) <= set(stages())
