"""A run whose process was killed is said to have crashed; one that works or has ended is left alone."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest

from catalog.connection import connect
from catalog.runs import crash_of, living_run, record_crash, record_crashes
from catalog.slices import SliceWrite
from catalog.store import TableStore, publish_rows

KILLED = """
import os, signal, sys
from pathlib import Path
from catalog.runs import living_run
with living_run(Path(sys.argv[1]), "killed", "nightly of demo"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def write(root: Path, small: ModuleType, run_id: str, state: str) -> None:
    row = small.run(run_id, state, started_at=datetime.now(UTC))
    publish_rows(root, [SliceWrite("runs", run_id, row)], fingerprint=f"{run_id} {state}")


def states(root: Path) -> dict[str, str]:
    with connect(root) as connection:
        return dict(connection.execute("select run_id, state from runs").fetchall())


def test_only_a_run_without_a_living_process_has_crashed(root: Path, small: ModuleType) -> None:
    for run_id, state in (("killed", "running"), ("alive", "running"), ("done", "completed")):
        write(root, small, run_id, state)
    subprocess.run([sys.executable, "-c", KILLED, str(root)], check=False)
    with living_run(root, "alive", "nightly"):
        assert crash_of(root, "alive") is None
        assert record_crashes(root) == ["killed"]
        assert record_crashes(root) == []
    assert states(root) == {"killed": "crashed", "alive": "running", "done": "completed"}
    with connect(root) as connection:
        ((finished, error, flow),) = connection.execute(
            "select finished_at, error, flow from runs where run_id = 'killed'"
        ).fetchall()
    assert timedelta(0) <= datetime.now(UTC) - finished < timedelta(minutes=1)
    assert "ended without a report" in error
    assert flow == "nightly"
    assert TableStore(root).verify() == []


def test_a_run_of_which_no_lease_is_known_has_crashed_at_no_known_time(root: Path, small: ModuleType) -> None:
    write(root, small, "old", "running")
    assert record_crashes(root) == ["old"]
    with connect(root) as connection:
        assert connection.execute("select finished_at from runs").fetchall() == [(None,)]


@pytest.mark.parametrize("state", ["completed", "failed"])
def test_how_a_run_says_it_ended_stands(root: Path, small: ModuleType, state: str) -> None:
    """A run that ends between the reading of ``runs`` and the look at its lease is not overwritten."""
    write(root, small, "run", "running")
    with living_run(root, "run", "nightly"):
        write(root, small, "run", state)
    assert not record_crash(root, "run")
    assert states(root) == {"run": state}


def test_the_next_attempt_takes_the_run_over(root: Path, small: ModuleType) -> None:
    write(root, small, "run", "running")
    with living_run(root, "run", "nightly"):
        with living_run(root, "run", "nightly"):
            write(root, small, "run", "running")
        assert crash_of(root, "run") is not None, "the attempt that was taken over counts no more"
    assert record_crashes(root) == ["run"]
    write(root, small, "run", "running")
    with living_run(root, "run", "nightly"):
        assert record_crashes(root) == []


def test_asking_writes_nothing(root: Path) -> None:
    assert crash_of(root, "unknown") is not None
    assert not root.exists()
