"""Claims: one executes, the others wait or are told; a dead or late owner can no longer publish."""

import json
import os
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from catalog.connection import connect
from catalog.errors import AlreadyRunning, CatalogueError, Fenced
from catalog.leases import LeaseFile, now_monotonic
from catalog.ledger import Ledger
from catalog.slices import SliceWrite
from catalog.store import TableStore


def stage_runs(root: Path) -> list[tuple[int, str, int]]:
    with connect(root) as connection:
        return connection.execute("select attempt, state, lease_token from stage_runs order by 1").fetchall()


def expire(root: Path, fingerprint: str) -> None:
    """What the lease of an owner on another machine looks like once its time is up."""
    file = LeaseFile(root, fingerprint)
    with file.lock:
        lease = file.read()
        file.write(replace(lease, host="elsewhere", boot_id="another", deadline_wall=time.time() - 1))


def test_a_finished_unit_is_found_and_not_done_again(root: Path, small: ModuleType) -> None:
    assert small.do_stage(root)
    version = TableStore(root).snapshot().version
    with small.claim(root) as again:
        assert again.done is not None
        assert again.done.facts == {"generation": 0}
        assert again.done.rows == {
            "models": 1,
            "corpora": 1,
            "activation_sets": 1,
            "features": 4,
            "examples": 8,
            "dictionaries": 1,
            "explanations": 4,
        }
        assert not again.done.recomputed
    assert TableStore(root).snapshot().version == version


def test_a_unit_whose_rows_were_replaced_is_done_again(root: Path, small: ModuleType) -> None:
    small.do_stage(root, 0)
    small.do_stage(root, 1)
    assert Ledger(root).outcome(small.claim(root, 1).fingerprint) is not None
    assert small.do_stage(root, 0), "generation 1 took the place of generation 0"
    assert not small.do_stage(root, 0)
    assert TableStore(root).verify() == []


def test_force_makes_a_new_attempt_and_doubles_nothing(root: Path, small: ModuleType) -> None:
    small.do_stage(root)
    assert small.do_stage(root, force=True)
    assert stage_runs(root) == [(1, "committed", 1), (2, "committed", 2)]
    with connect(root) as connection:
        counts = connection.execute(
            "select (select count(*) from features), (select count(*) from examples), "
            "(select count(*) from explanations), (select count(*) from slices where table_name = 'features')"
        ).fetchone()
    assert counts == (4, 8, 4, 1)
    assert TableStore(root).verify() == []


def test_a_failure_is_recorded_and_frees_the_unit(root: Path, small: ModuleType) -> None:
    def fail_half_way() -> None:
        with small.claim(root) as first:
            (first.scratch / "checkpoint").write_text("half way")
            raise RuntimeError("no luck")

    with pytest.raises(RuntimeError, match="no luck"):
        fail_half_way()
    with connect(root) as connection:
        rows = connection.execute("select state, error, rows from stage_runs").fetchall()
    assert rows == [("failed", "RuntimeError: no luck", 0)]
    with small.claim(root) as second:
        assert second.attempt == 2
        assert (second.scratch / "checkpoint").read_text() == "half way"
    assert small.do_stage(root)
    assert not second.scratch.exists()


def test_a_live_owner_is_waited_for_and_then_named(root: Path, small: ModuleType) -> None:
    with small.claim(root):
        started = time.monotonic()
        with pytest.raises(AlreadyRunning, match=f"process {os.getpid()} on "):
            Ledger(root, wait_seconds=0.5).claim("mine", 1, small.DICTIONARY, {"generation": 0}, ["parent"])
        assert 0.4 < time.monotonic() - started < 5
    assert small.do_stage(root)


def test_whoever_was_taken_over_can_publish_nothing(root: Path, small: ModuleType) -> None:
    orphan = small.claim(root)
    expire(root, orphan.fingerprint)
    newer = small.claim(root)
    assert newer.token == orphan.token + 1
    with pytest.raises(Fenced, match="published nothing"), orphan:
        orphan.commit(small.writes(), facts={})
    with pytest.raises(Fenced):
        orphan.renew()
    with newer:
        newer.renew()
        newer.commit(small.writes(), facts={})
    assert stage_runs(root) == [(2, "committed", 2)]


def test_a_jump_of_the_wall_clock_expires_nothing(
    root: Path, small: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small.claim(root) as mine:
        lease = LeaseFile(root, mine.fingerprint).read()
        now = time.time()
        for hours in (-2, 2):
            monkeypatch.setattr(time, "time", lambda jump=hours: now + jump * 3600)
            assert lease.is_live()
        assert not replace(lease, deadline_monotonic=now_monotonic() - 1).is_live()


@pytest.mark.parametrize(
    ("changed", "is_live"),
    [
        ({"boot_id": "other"}, False),
        ({"boot_id": "other", "machine_id": "other"}, True),
        ({"boot_id": "other", "machine_id": ""}, True),
        ({"boot_id": "other", "host": "other"}, True),
        ({"boot_id": "other", "machine_id": "other", "deadline_wall": 0.0}, False),
    ],
)
def test_only_the_machine_id_says_that_another_boot_is_over(
    changed: dict[str, Any], is_live: bool, root: Path, small: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines may share a host name: their leases are believed until their deadline."""
    monkeypatch.setattr("catalog.leases.machine_id", lambda: "this machine")
    with small.claim(root) as mine:
        lease = LeaseFile(root, mine.fingerprint).read()
        assert lease.machine_id == "this machine"
        assert replace(lease, **changed).is_live() is is_live


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"7", b'{"held": 1, "deadline_wall": "x"}', b"\xff", b"[" * 100_000],
    ids=lambda content: content[:20],
)
def test_a_damaged_lease_counts_as_none(content: bytes, root: Path) -> None:
    file = LeaseFile(root, "damaged")
    file.path.write_bytes(content)
    assert not file.read().is_live()


def test_a_lease_of_another_version_of_featlas_is_read(root: Path, small: ModuleType) -> None:
    with small.claim(root) as mine:
        file = LeaseFile(root, mine.fingerprint)
        content = json.loads(file.path.read_bytes())
        del content["machine_id"]
        file.path.write_text(json.dumps({**content, "a_later_field": 1}))
        assert file.read().token == mine.token
        file.path.write_text(json.dumps(content))
        assert file.read().is_live()


def test_the_lease_is_renewed_while_the_stage_works(root: Path, small: ModuleType) -> None:
    ledger = Ledger(root, lease_seconds=0.6, wait_seconds=0)
    with ledger.claim("mine", 1, "long", {}, []) as mine:
        first = LeaseFile(root, mine.fingerprint).read().deadline_monotonic
        time.sleep(1.0)
        assert LeaseFile(root, mine.fingerprint).read().deadline_monotonic > first
        with pytest.raises(AlreadyRunning):
            ledger.claim("mine", 1, "long", {}, [])


_PROCESS = """
import sys, time
from pathlib import Path
from catalog.errors import AlreadyRunning
from catalog.ledger import Ledger
sys.path.insert(0, {folder!r})
import small
while not Path({gate!r}).exists():
    time.sleep(0.01)
try:
    with small.claim(Path({root!r})) as mine:
        if mine.done is not None:
            print("done")
        else:
            time.sleep({work})
            mine.commit(small.writes(), facts={{}})
            print("executed")
except AlreadyRunning:
    print("already running")
"""


def start(root: Path, gate: Path, work: float) -> subprocess.Popen[str]:
    code = textwrap.dedent(_PROCESS).format(
        folder=str(Path(__file__).parent), gate=str(gate), root=str(root), work=work
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_five_at_once_do_it_once(root: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    processes = [start(root, gate, 0.3) for _ in range(5)]
    time.sleep(1)
    gate.touch()
    said = sorted(process.communicate(timeout=60)[0].strip() for process in processes)
    assert said.count("executed") == 1
    assert set(said) <= {"executed", "done", "already running"}
    assert TableStore(root).snapshot().version == 1
    assert stage_runs(root) == [(1, "committed", 1)]


def test_a_killed_owner_is_replaced_at_once(root: Path, tmp_path: Path, small: ModuleType) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    with start(root, gate, 60) as owner:
        while not list(root.glob("_scratch/*")):
            time.sleep(0.02)
        owner.kill()
        started = time.monotonic()
        with small.claim(root) as mine:
            assert mine.token == 2
            assert time.monotonic() - started < 5


def test_a_commit_that_does_not_fit_publishes_nothing(root: Path, small: ModuleType) -> None:
    small.do_stage(root, 0)
    version = TableStore(root).snapshot().version
    bad = [
        *small.writes(1),
        SliceWrite("features", "x", small.features().append_column("odd", [[1, 2, 3, 4]])),
    ]
    with pytest.raises(CatalogueError, match="unknown columns \\['odd'\\]"), small.claim(root, 1) as mine:
        mine.commit(bad, facts={})
    assert TableStore(root).snapshot().version == version + 1, "only the failed attempt was added"
    with connect(root) as connection:
        assert connection.execute("select distinct n_tokens from features").fetchall() == [(1,)]


def test_a_second_commit_of_one_claim_is_refused(root: Path, small: ModuleType) -> None:
    with small.claim(root) as mine:
        mine.commit([], facts={})
        with pytest.raises(CatalogueError, match="already committed"):
            mine.commit([], facts={})


def test_what_ended_an_attempt_is_told_though_its_lease_cannot_be_freed(
    root: Path, small: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a full disk neither the failure nor the end of the lease can be written down."""
    small.do_stage(root)
    monkeypatch.setenv("FEATLAS_FAULT", "lease.write:2:enospc")
    with pytest.raises(RuntimeError, match="the real reason"), small.claim(root, 1):
        raise RuntimeError("the real reason")
    assert "No space left on device" in caplog.text
