"""The systemd units start what there is, as the guide says, and give it no more rights than it needs."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from catalog.settings import catalogue_root
from tasks.common.paths import state_folder

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "infra" / "systemd").glob("*.service"))
GUIDE = (ROOT / "infra" / "README.md").read_text()
EXAMPLE = ROOT / "infra" / "featlas.env.example"


def settings(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def example() -> dict[str, str]:
    lines = EXAMPLE.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_there_is_one_service_and_one_template() -> None:
    assert [unit.name for unit in UNITS] == ["featlas-worker@.service", "featlas.service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_of_the_user_of_the_guide_and_writes_to_its_state_folder_alone(unit: Path) -> None:
    said = settings(unit)
    assert said["User"] == said["Group"] == said["StateDirectory"] == ["featlas"]
    assert "useradd --system --user-group --home-dir /var/lib/featlas" in GUIDE
    assert said["EnvironmentFile"] == ["/etc/featlas/featlas.env"]
    assert "/etc/featlas/featlas.env\n" in GUIDE
    assert (said["ProtectSystem"], said["NoNewPrivileges"], said["CapabilityBoundingSet"]) == (
        ["strict"],
        ["yes"],
        [""],
    )
    assert all(
        value.startswith("/var/lib/featlas/")
        for name, value in example().items()
        if name.startswith("FEATLAS_")
    )


def test_commands_of_the_guide_leave_the_state_folder_as_closed_as_the_service_does() -> None:
    """systemd sets the mode of a state folder at each start of a unit, 0755 where it is not said."""
    line = GUIDE[GUIDE.index("as_featlas() {") : GUIDE.index('"$@"; }')]
    said = dict(re.findall(r"--property=(\w+)=(\S+)", line))
    service = settings(ROOT / "infra/systemd/featlas.service")
    assert {name: [value] for name, value in said.items()}.items() <= service.items()
    assert {"StateDirectoryMode", "UMask", "EnvironmentFile"} <= said.keys()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_command_that_has_these_options(unit: Path) -> None:
    (line,) = settings(unit)["ExecStart"]
    program, *arguments = shlex.split(line)
    assert program.startswith("/opt/featlas/.venv/bin/")
    module = ["-m", "flows.cli"] if program.endswith("featlas") else []
    options = [argument for argument in arguments if argument.startswith("--")]
    start = arguments[: arguments.index(options[0])]
    shown = subprocess.run(
        [sys.executable, *module, *start, "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    assert [option for option in options if option not in shown] == []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_reads_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        name = unit.name.replace("@", "@1")
        (tmp_path / name).write_text(
            unit.read_text().replace("/opt/featlas/.venv/bin/", f"{Path(sys.executable).parent}/")
        )
    done = subprocess.run(
        ["systemd-analyze", "verify", *sorted(map(str, tmp_path.iterdir()))], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_example_names_one_catalogue_and_one_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in example().items():
        monkeypatch.setenv(name, value)
    assert str(catalogue_root(None)) == "/var/lib/featlas/catalogue"
    assert str(state_folder()) == "/var/lib/featlas/state"
    assert example()["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert "--server-port 4200" in (ROOT / "infra/systemd/featlas.service").read_text()
