"""The synthetic catalogue, built once per test session."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _load() -> ModuleType:
    path = Path(__file__).with_name("synthetic.py")
    spec = importlib.util.spec_from_file_location("featlas_synthetic", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["featlas_synthetic"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The module that names what is in the catalogue."""
    return sys.modules.get("featlas_synthetic") or _load()


@pytest.fixture(scope="session")
def catalogue(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of the synthetic catalogue; read only by agreement."""
    return synthetic.build(tmp_path_factory.mktemp("synthetic") / "catalogue")
