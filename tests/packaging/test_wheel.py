"""An installation without a clone: what each extra brings, and what featlas says of what is missing."""

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catalog.version import code_version

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "catalog"))

import small  # noqa: E402

PACKAGES = ("flows", "tasks", "catalog", "dashboards")
HEAVY = ("torch", "prefect", "streamlit", "transformers", "openai")


@pytest.fixture(scope="module")
def reader(install: Callable[[str], Any]) -> Any:
    """The smallest installation, beside a small catalogue."""
    installation = install("catalog")
    small.do_stage(installation.folder / "catalogue", 0)
    return installation


def test_wheel_carries_data_files(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    suffixes = {".sql", ".yaml", ".safetensors", ".json", ".js", ".css", ".txt", ".typed"}
    expected = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in suffixes and "__pycache__" not in path.parts
    }
    assert {"flows/prefect.yaml", "catalog/py.typed"} <= expected
    assert expected - names == set()
    assert not [name for name in names if name.startswith(("tests/", "infra/"))]


def test_catalog_extra_leaves_the_heavy_packages_out(reader: Any) -> None:
    found = reader.python(
        f"from importlib.util import find_spec; print([m for m in {HEAVY!r} if find_spec(m)])"
    )
    assert found.stdout.strip() == "[]", found.stderr


def test_catalog_extra_reads_a_catalogue(reader: Any) -> None:
    asked = reader.python(
        "import catalog; print(catalog.__file__); "
        "print(catalog.connect('catalogue').sql('select count(*) from features').fetchall()[0][0])"
    )
    where, count = asked.stdout.splitlines()
    assert str(reader.folder) in where
    assert int(count) > 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--version"], f"featlas {code_version().partition('+')[0]}"),
        (["sql", "select count(*) n from examples", "--format", "csv"], "n"),
        (["show", f"{small.DICTIONARY}#0"], "topk"),
        (["verify"], "no fault"),
        (["--help"], "Usage"),
    ],
    ids=["version", "sql", "show", "verify", "help"],
)
def test_catalog_extra_has_the_commands_that_read(reader: Any, arguments: list[str], expected: str) -> None:
    done = reader.featlas(*arguments, FEATLAS_CATALOG="catalogue")
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


@pytest.mark.parametrize(
    "arguments", [["run", "demo"], ["ui"], ["up"], ["deploy"], ["import", "saelens", "there"], ["doctor"]]
)
def test_a_command_that_needs_more_says_what_to_install(reader: Any, arguments: list[str]) -> None:
    done = reader.featlas(*arguments, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "featlas-platform[all]" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
