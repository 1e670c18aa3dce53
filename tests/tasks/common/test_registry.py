"""A registry takes its names from a folder and from plugins, and says which plugin it could not load."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.registries import REGISTRIES
from tasks.autointerp.explainer import EXPLAINERS
from tasks.common.registry import Registry


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("plugin_"):
            del sys.modules[name]


def install(site: Path, group: str, module: str, code: str) -> None:
    """Put a package with one entry point into ``site``, as pip does."""
    (site / f"{module}.py").write_text(code)
    info = site / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{module} = {module}\n")
    importlib.invalidate_caches()


def like(registry: Registry[object]) -> Registry[object]:
    """A registry of the same kind and folder that has loaded nothing yet, with the names of the first."""
    fresh: Registry[object] = Registry(registry.kind, registry.package)
    for name in registry.names():
        fresh.register(name)(registry[name])
    return fresh


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_a_plugin_of_every_kind_is_known_by_its_name(registry: Registry[object], site: Path) -> None:
    fresh = like(registry)
    kind = fresh.group.removeprefix("featlas.")
    code = "import registries\n\n@registries.current.register('from_a_plugin')\n"
    code += "class Mine:\n    purpose = 'does nothing'\n"
    module = f"plugin_{kind}"
    install(site, fresh.group, module, code)
    (site / "registries.py").write_text("current = None\n")
    sys.modules.pop("registries", None)
    importlib.import_module("registries").__dict__["current"] = fresh
    assert "from_a_plugin" in fresh
    assert fresh["from_a_plugin"].__name__ == "Mine"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise OSError('no such card')", "no such card"),
        ("import a_package_that_is_nowhere", "a_package_that_is_nowhere"),
        (
            "from tasks.autointerp.explainer import EXPLAINERS\n\n"
            "@EXPLAINERS.register('lexical')\nclass Other:\n    purpose = 'x'\n",
            "registered twice",
        ),
        (
            "from tasks.autointerp.explainer import EXPLAINERS\n\n"
            "@EXPLAINERS.register('wordless')\nclass Other:\n    pass\n",
            "needs an attribute purpose",
        ),
    ],
    ids=["raises", "lacks a package", "takes a name", "says no purpose"],
)
def test_a_plugin_that_fails_leaves_the_rest_usable(site: Path, code: str, reason: str) -> None:
    install(site, EXPLAINERS.group, "plugin_broken", code)
    fresh = like(EXPLAINERS)
    assert fresh["lexical"] is EXPLAINERS["lexical"]
    with pytest.raises(ValueError, match=f"plugin 'plugin_broken' of plugin_broken .*{reason}"):
        fresh["no such name"]
