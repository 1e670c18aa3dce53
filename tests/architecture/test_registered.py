"""Whatever a file adds to a registry says what it does, in one line that the command line shows."""

import re
from pathlib import Path

import pytest

from flows.commands.kinds import kinds_command
from flows.registries import REGISTRIES
from tasks.common.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
REGISTERED = [(registry, name) for registry in REGISTRIES for name in registry]
IDS = [f"{registry.kind}-{name}" for registry, name in REGISTERED]


def registries_in_the_code() -> set[str]:
    """The packages that are named as the folder of a registry."""
    code = "\n".join(path.read_text() for path in (ROOT / "tasks").rglob("*.py"))
    return set(re.findall(r'= Registry\("[\w ]+", "([\w.]+)"\)', code))


def test_every_registry_is_listed() -> None:
    assert {registry.package for registry in REGISTRIES} == registries_in_the_code()


@pytest.mark.parametrize(("registry", "name"), REGISTERED, ids=IDS)
def test_a_registered_thing_says_its_purpose_in_one_line(registry: Registry[object], name: str) -> None:
    purpose = registry.purpose(name)
    assert purpose[0].islower()
    assert not purpose.endswith(".")
    assert len(purpose) <= 90


def test_the_command_lists_every_name_with_its_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    kinds_command(None)
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines() if line.startswith("  ")] == [
        name for _, name in REGISTERED
    ]
    kinds_command("matcher")
    assert capsys.readouterr().out.splitlines()[0] == "matcher"
