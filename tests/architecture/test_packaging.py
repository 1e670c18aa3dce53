"""Four generic package names, kept safe: they are ours alone and the wheel carries their data files."""

import re
import subprocess
import sys
import zipfile
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


def test_wheel_carries_data_files(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    suffixes = {".sql", ".yaml", ".safetensors", ".json", ".js", ".css", ".txt"}
    expected = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in suffixes and "__pycache__" not in path.parts
    }
    assert expected
    assert expected - names == set()
    assert not [name for name in names if name.startswith(("tests/", "infra/"))]
