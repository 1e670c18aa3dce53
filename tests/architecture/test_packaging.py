"""Four generic package names, kept safe: they are ours alone and every version is pinned."""

import re
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("flows", "tasks", "catalog", "dashboards")
DISTRIBUTION = "featlas-platform"


@pytest.mark.parametrize("package", PACKAGES)
def test_package_name_belongs_to_us_alone(package: str) -> None:
    assert set(packages_distributions()[package]) == {DISTRIBUTION}


@pytest.mark.parametrize("folder", ["flows", "dashboards"])
def test_no_script_shadows_a_package(folder: str) -> None:
    reserved = {*PACKAGES, "tests"}
    assert not {path.stem for path in (ROOT / folder).rglob("*.py")} & reserved


def test_no_package_marker_below_tests() -> None:
    """A ``tests/flows/__init__.py`` would shadow ``flows``."""
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_every_installed_version_is_pinned() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] not in "#"]
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)] == []
