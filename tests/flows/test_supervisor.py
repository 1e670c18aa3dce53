"""Children are kept alive, stopped in order, and never outlive their supervisor."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from flows import supervisor as supervising
from flows.attached import attached_command
from flows.supervisor import Service, Supervisor

PYTHON = sys.executable


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def sleeper(name: str, folder: Path) -> Service:
    """A child that notes when it starts and when it is told to stop."""
    code = (
        "import signal, sys, time\n"
        "def stop(*_):\n    open(sys.argv[1], 'a').write(f'{sys.argv[2]} stopped\\n'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "open(sys.argv[1], 'a').write(f'{sys.argv[2]} started\\n')\n"
        "time.sleep(600)\n"
    )
    command = [PYTHON, "-c", code, str(folder / "events"), name]
    return Service(name, attached_command(command), dict(os.environ), folder / f"{name}.log")


def events(folder: Path) -> list[str]:
    path = folder / "events"
    return path.read_text().splitlines() if path.exists() else []


def test_a_child_that_dies_is_started_again_and_all_stop_in_reverse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supervising, "FIRST_PAUSE_SECONDS", 0.1)
    first, second = sleeper("first", tmp_path), sleeper("second", tmp_path)
    second.pause_seconds = 0.1
    supervisor = Supervisor([first, second])
    supervisor.start()
    try:
        wait_for(lambda: len(events(tmp_path)) == 2)
        assert second.process is not None
        second.process.kill()
        wait_for(lambda: (supervisor.check(), events(tmp_path).count("second started") == 2)[1])
        assert "second ended with -9, starting it again" in capsys.readouterr().err
    finally:
        supervisor.stop()
    assert events(tmp_path)[-2:] == ["second stopped", "first stopped"]


def test_children_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys, time\n"
        "from flows.attached import attached_command\n"
        "child = subprocess.Popen(attached_command([sys.executable, '-c', 'import time; time.sleep(600)']))\n"
        "print(child.pid, flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen([PYTHON, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        wait_for(
            lambda: "time.sleep(600)" in " ".join(child.cmdline()) and "attached" not in child.cmdline()[2]
        )
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_an_attached_child_can_be_interrupted_though_its_parent_ignores_it() -> None:
    """A shell script starts background jobs with SIGINT ignored, and a worker would inherit that."""
    code = (
        "import signal, subprocess, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from flows.attached import attached_command\n"
        "probe = 'import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)'\n"
        "sys.exit(subprocess.call(attached_command([sys.executable, '-c', probe])))\n"
    )
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
