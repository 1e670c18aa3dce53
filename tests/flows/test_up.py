"""`featlas up` waits for what is slow, and gives up what cannot work."""

import sys
from pathlib import Path

import pytest

from catalog.errors import UserError
from flows import supervisor as supervising
from flows.commands import up
from flows.engine import free_port
from flows.supervisor import Service, Supervisor


def service(code: str, folder: Path) -> Service:
    return Service("server", [sys.executable, "-c", code], {}, folder / "log")


def test_registering_is_tried_until_the_server_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(up, "REGISTER_PAUSES", (0.05,))
    tries = tmp_path / "tries"
    code = f"import sys; f = open({str(tries)!r}, 'a+'); f.write('x'); f.seek(0); sys.exit(len(f.read()) < 3)"
    up._register(Supervisor([]), [sys.executable, "-c", code], {})
    assert tries.read_text() == "xxx"
    assert capsys.readouterr().err.count("could not be registered, trying again") == 2


def test_a_slow_service_is_waited_for_and_said_to_be_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(up, "SAY_EVERY_SECONDS", 0.0)
    ready = tmp_path / "ready"
    slow = service(f"import time; time.sleep(0.5); open({str(ready)!r}, 'w'); time.sleep(60)", tmp_path)
    watching = Supervisor([])
    watching.add([slow])
    try:
        up._wait_for(watching, slow, ready.exists)
    finally:
        watching.stop()
    assert "the server is still starting" in capsys.readouterr().err


def test_a_service_that_ends_again_and_again_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "LONGEST_PAUSE_SECONDS", 0.05)
    broken = service("raise SystemExit(1)", tmp_path)
    broken.pause_seconds = 0.05
    watching = Supervisor([])
    watching.add([broken])
    with pytest.raises(UserError, match=f"ended {up.MOST_STARTS} times"):
        up._wait_for(watching, broken, lambda: False)
    watching.stop()


def test_a_pipeline_that_cannot_be_deployed_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATLAS_STATE", str(tmp_path / "state"))
    with pytest.raises(UserError, match="no pipeline file"):
        up.up_command(str(tmp_path / "catalogue"), free_port(), free_port(), [tmp_path / "nowhere.yaml"])
    assert not (tmp_path / "state").exists()
