"""Small catalogues for the tests of the catalogue itself."""

import importlib.util
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest


def _load(name: str) -> ModuleType:
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"featlas_tests_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def uncounted_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test counts its own visits of the fault points."""
    monkeypatch.setattr("catalog.faults._visits", Counter())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Root of an empty catalogue."""
    return tmp_path / "catalogue"


@pytest.fixture(scope="session")
def small() -> ModuleType:
    """Makers of small valid tables, see ``small.py``."""
    return _load("small")


@pytest.fixture(scope="session")
def manifest_store() -> ModuleType:
    """The plain store, see ``manifest_store.py``."""
    return _load("manifest_store")


@pytest.fixture(scope="session")
def freeze_queries() -> ModuleType:
    """The command that writes the result columns of the named queries down, see ``freeze_queries.py``."""
    return _load("freeze_queries")


@pytest.fixture(scope="session")
def freeze_tables() -> ModuleType:
    """The command that freezes the tables' columns, see ``freeze_tables.py``."""
    return _load("freeze_tables")


@pytest.fixture(scope="session")
def run() -> Iterator[Callable[[Path, int, str], int]]:
    """Runs one stage in a process of its own, with a fault; returns its exit status."""
    script = Path(__file__).with_name("small.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        stdin, stdout = server.stdin, server.stdout

        def ask(root: Path, generation: int, fault: str) -> int:
            stdin.write(f"{root}\t{generation}\t{fault}\n")
            stdin.flush()
            return int(stdout.readline())

        yield ask
        stdin.close()
