"""Leases of runs, so that a run whose process is gone does not look as if it were still running.

A run's row in ``runs`` says ``running`` from the start, and a killed process cannot correct it.
``record_crashes`` of a later run corrects it when it finds the lease expired; pages see it earlier through
``crash_of``.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from catalog.claims import scratch_folder
from catalog.connection import read
from catalog.headway import Headway, read_headway
from catalog.ids import slug, stage_fingerprint
from catalog.leases import HeldLease, Lease, LeaseFile, new_lease, read_lease, recent_leases
from catalog.slices import SliceWrite
from catalog.store import publish_rows

LEASE_SECONDS = 30.0
"""As long as that of a stage: a run of a dead machine is free half a minute later."""
_WAS = """
select * exclude (fingerprint, slice, subject)
    replace ('crashed' as state, $last_seen_at::timestamptz as finished_at, $reason::varchar as error)
from runs where run_id = $run_id and state = 'running'
"""


@dataclass(frozen=True)
class Crash:
    """How a run ended without reporting it; the time is that of its last sign of life."""

    last_seen_at: datetime | None
    reason: str


@contextmanager
def living_run(root: Path, run_id: str, label: str) -> Iterator[None]:
    """Hold the lease of a run; another attempt at the same run takes it over.

    Write the run's last row before this ends: a run that still says ``running`` afterwards has crashed.
    """
    name = _name(run_id)
    file = LeaseFile(root, name)
    with file.lock:
        token, started_at = file.read().token + 1, datetime.now(UTC).isoformat(timespec="seconds")
        lease = new_lease(token, uuid.uuid4().hex, "run", label, started_at, LEASE_SECONDS)
        file.write(lease)
    held = HeldLease(root, name, lease, LEASE_SECONDS)
    try:
        yield
    finally:
        held.abandon()
        with file.lock:
            if held.is_ours(file.read()):
                held.release(file)


def crash_of(root: Path, run_id: str) -> Crash | None:
    """How a run ended whose row says that it is running; None while it may be running. Writes nothing."""
    lease = read_lease(root, _name(run_id))
    return None if lease.is_live() else _crash(lease)


@dataclass(frozen=True)
class Working:
    """A stage in progress: its name, its label, its start, and its progress if known."""

    stage: str
    label: str
    started_at: datetime
    headway: Headway | None


def stages_at_work(root: Path, run_id: str) -> list[Working]:
    """Stages for which the process of a run holds a live lease, by their start. Writes nothing."""
    run = read_lease(root, _name(run_id))
    if not run.is_live():
        return []
    found = [
        Working(
            lease.stage,
            lease.label,
            datetime.fromisoformat(lease.started_at),
            read_headway(scratch_folder(root, name)),
        )
        for name, lease in recent_leases(root).items()
        if lease.stage != "run" and (lease.host, lease.pid) == (run.host, run.pid) and lease.is_live()
    ]
    return sorted(found, key=lambda stage: stage.started_at)


def record_crashes(root: Path) -> list[str]:
    """Record in ``runs`` which of the running ones crashed; return their ids."""
    query = "select run_id from runs where state = 'running' order by run_id"
    rows = read(lambda connection: connection.sql(query).fetchall(), root)
    return [run_id for (run_id,) in rows if record_crash(root, run_id)]


def record_crash(root: Path, run_id: str) -> bool:
    """Change ``running`` to ``crashed`` for one run; False if it is alive or has recorded its end.

    The row is read under the lease's lock: a run writes its last row before it frees the lease.
    """
    file = LeaseFile(root, _name(run_id))
    with file.lock:
        lease = file.read()
        if lease.is_live():
            return False
        crash = _crash(lease)
        values = {"run_id": run_id, "last_seen_at": crash.last_seen_at, "reason": crash.reason}
        rows = read(lambda connection: connection.sql(_WAS, params=values).to_arrow_table(), root)
        if rows.num_rows == 0:
            return False
        fingerprint = stage_fingerprint("run", 1, {"run_id": run_id, "state": "crashed"})
        publish_rows(root, [SliceWrite("runs", run_id, rows)], fingerprint=fingerprint)
    return True


def _crash(lease: Lease) -> Crash:
    if not lease.held:
        return Crash(None, "it ended without a report; run it again, finished stages are reused")
    return Crash(
        datetime.fromtimestamp(lease.deadline_wall - LEASE_SECONDS, UTC),
        f"{lease.describe_owner()} ended without a report (killed, out of memory, or the machine went down); "
        "run it again, finished stages are reused",
    )


def _name(run_id: str) -> str:
    return f"run-{slug(run_id)}"
