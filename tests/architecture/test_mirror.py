"""The tests lie as the packages do, so that a reader finds the tests of a folder without a search."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("flows", "tasks", "catalog", "dashboards")


def folders_of_tests() -> list[str]:
    """Folders of tests below the name of a package."""
    return sorted(
        str(path.parent.relative_to(ROOT / "tests"))
        for package in PACKAGES
        for path in (ROOT / "tests" / package).rglob("test_*.py")
    )


@pytest.mark.parametrize("folder", sorted(set(folders_of_tests())))
def test_folder_of_tests_is_named_as_a_folder_of_the_package(folder: str) -> None:
    assert (ROOT / folder).is_dir(), (
        f"tests/{folder} has no counterpart: move its tests to where their code is"
    )


def rooms() -> list[str]:
    """Folders of ``tasks`` that hold code."""
    return sorted(path.name for path in (ROOT / "tasks").iterdir() if list(path.glob("*.py")))


@pytest.mark.parametrize("folder", rooms())
def test_every_room_of_tasks_has_tests(folder: str) -> None:
    assert list((ROOT / "tests" / "tasks" / folder).rglob("test_*.py")), f"tests/tasks/{folder} has no test"
