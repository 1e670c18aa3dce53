"""Units of work: done once, found again, taken up where they stopped, resumed after a failure."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from catalog.connection import connect
from catalog.errors import AlreadyRunning
from catalog.ledger import Claim, StageOutcome
from catalog.store import SliceWrite
from tasks.common.progress import Progress, ProgressListener, StageEvent
from tasks.support.policies import (
    LeftOut,
    Results,
    StageContext,
    UnitKey,
    artifact_key,
    run_unit,
    stage_listener,
)

KEY = UnitKey("train_dictionary", 1, "toy", {"k": 1})


def log_rows(*values: float) -> SliceWrite:
    rows = [
        {"dictionary_id": "toy-00000000", "step": i + 1, "n_tokens": i, "metric": "loss", "value": value}
        for i, value in enumerate(values)
    ]
    return SliceWrite("training_log", "toy", pa.Table.from_pylist(rows))


def computing(calls: list[str], **facts: Any) -> Callable[[Claim, ProgressListener], Results]:
    def compute(claim: Claim, listener: ProgressListener) -> Results:
        calls.append(claim.fingerprint)
        listener(Progress("steps", 1, 2))
        return Results([log_rows(0.5, 0.25)], facts)

    return compute


def n_log_rows(root: Path) -> int:
    with connect(root) as connection:
        (count,) = connection.execute("select count(*) from training_log").fetchone() or (0,)
    return int(count)


def test_a_unit_is_computed_once_and_found_again(tmp_path: Path) -> None:
    context, calls = StageContext(tmp_path, "run-1"), list[str]()
    first = run_unit(context, KEY, computing(calls, n=3))
    second = run_unit(context, KEY, computing(calls))
    assert (first.recomputed, second.recomputed) == (True, False)
    assert second.facts == {"n": 3}
    assert second.rows == first.rows == {"training_log": 2}
    assert len(calls) == 1


def test_a_changed_config_or_parent_or_prompt_is_another_unit(tmp_path: Path) -> None:
    context, calls = StageContext(tmp_path, "run-1"), list[str]()
    for key in (
        KEY,
        UnitKey(KEY.stage, 1, "toy", {"k": 2}),
        UnitKey(KEY.stage, 1, "toy", {"k": 1}, ["parent"]),
        UnitKey(KEY.stage, 1, "toy", {"k": 1}, (), ["prompt"]),
        UnitKey(KEY.stage, 2, "toy", {"k": 1}),
    ):
        assert run_unit(context, key, computing(calls)).recomputed
    assert len(set(calls)) == 5


def test_force_recomputes_without_doubling_rows(tmp_path: Path) -> None:
    calls: list[str] = []
    run_unit(StageContext(tmp_path, "run-1"), KEY, computing(calls))
    forced = StageContext(tmp_path, "run-2", forced=frozenset({"train_dictionary"}))
    assert run_unit(forced, KEY, computing(calls)).recomputed
    assert len(calls) == 2
    assert n_log_rows(tmp_path) == 2


def test_a_unit_stopped_by_a_budget_is_taken_up_again_by_the_next_run(tmp_path: Path) -> None:
    context, calls = StageContext(tmp_path, "run-1"), list[str]()
    run_unit(context, KEY, computing(calls, complete=False))
    assert run_unit(context, KEY, computing(calls, complete=True)).recomputed
    assert not run_unit(context, KEY, computing(calls)).recomputed
    assert len(calls) == 2


def test_a_unit_that_is_no_longer_current_is_taken_up_again(tmp_path: Path) -> None:
    context, calls = StageContext(tmp_path, "run-1"), list[str]()
    run_unit(context, KEY, computing(calls, n=1))

    def has_two(outcome: StageOutcome) -> bool:
        return bool(outcome.facts["n"] == 2)

    assert run_unit(context, KEY, computing(calls, n=2), has_two).facts == {"n": 2}
    assert len(calls) == 2


def test_scratch_outlives_a_failure_and_goes_with_the_commit(tmp_path: Path) -> None:
    context = StageContext(tmp_path, "run-1")
    folders: list[Path] = []

    def fail(claim: Claim, listener: ProgressListener) -> Results:
        (claim.scratch / "half").write_text("done so far")
        raise OSError("disk went away")

    def resume(claim: Claim, listener: ProgressListener) -> Results:
        assert (claim.scratch / "half").read_text() == "done so far"
        folders.append(claim.scratch)
        return Results([log_rows(1.0)], {})

    with pytest.raises(OSError, match="disk went away"):
        run_unit(context, KEY, fail)
    assert run_unit(context, KEY, resume).recomputed
    assert not folders[0].exists()
    with connect(tmp_path) as connection:
        attempts = connection.execute(
            "select attempt, state, error from stage_runs order by attempt"
        ).fetchall()
    assert attempts == [(1, "failed", "OSError: disk went away"), (2, "committed", None)]


def test_of_five_at_once_one_computes_and_four_find_it(tmp_path: Path) -> None:
    calls: list[str] = []
    outcomes: list[StageOutcome] = []
    go = threading.Barrier(5)

    def work(number: int) -> None:
        go.wait()
        outcomes.append(run_unit(StageContext(tmp_path, f"run-{number}"), KEY, computing(calls)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome.recomputed for outcome in outcomes) == [False] * 4 + [True]
    assert len(calls) == 1
    assert n_log_rows(tmp_path) == 2


def test_a_run_that_may_not_wait_is_told_who_works(tmp_path: Path) -> None:
    context = StageContext(tmp_path, "run-1", wait_seconds=0)

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        with pytest.raises(AlreadyRunning, match="train_dictionary of toy is already running"):
            run_unit(context, KEY, computing([]))
        return Results([log_rows(1.0)], {})

    assert run_unit(context, KEY, compute).recomputed


def test_what_happens_to_a_unit_reaches_the_terminal(tmp_path: Path) -> None:
    heard: list[StageEvent] = []
    token = stage_listener.set(heard.append)
    try:
        run_unit(StageContext(tmp_path, "run-1"), KEY, computing([]))
        run_unit(StageContext(tmp_path, "run-2"), KEY, computing([]))
    finally:
        stage_listener.reset(token)
    states = [event.state for event in heard]
    assert states == ["started", "working", "working", "ended", "computed", "found"]
    assert {(event.stage, event.label) for event in heard} == {(KEY.stage, KEY.label)}
    assert [event.progress for event in heard[1:3]] == [
        Progress("steps", 1, 2),
        Progress("writing to the catalogue", 0, 0),
    ]
    assert [event.rows for event in heard[4:]] == [2, 2]


@pytest.mark.parametrize(("error", "state"), [(OSError("x"), "failed"), (KeyboardInterrupt(), "cancelled")])
def test_an_interruption_is_not_stored_as_a_failure(error: BaseException, state: str, tmp_path: Path) -> None:
    def stop(claim: Claim, listener: ProgressListener) -> Results:
        raise error

    with pytest.raises(type(error)):
        run_unit(StageContext(tmp_path, "run-1"), KEY, stop)
    with connect(tmp_path) as connection:
        assert connection.execute("select state from stage_runs").fetchall() == [(state,)]


@pytest.mark.parametrize(
    "text", ["mine_examples pico-a/blocks.2.resid_post/topk-x8-k16-s0", "ÄÖ | ß", "x" * 300]
)
def test_an_artifact_key_is_one_that_prefect_takes(text: str) -> None:
    key = artifact_key(text)
    assert set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert key != artifact_key(text + "!")


def test_a_run_that_may_not_compute_a_stage_finds_it_or_leaves_it_out(tmp_path: Path) -> None:
    context, calls = StageContext(tmp_path, "run-1"), list[str]()
    labelling = StageContext(tmp_path, "run-2", only=frozenset({"explain_features"}))
    with pytest.raises(LeftOut, match="train_dictionary toy is not in the catalogue"):
        run_unit(labelling, KEY, computing(calls))
    assert calls == []
    run_unit(context, KEY, computing(calls))
    found = run_unit(labelling, KEY, computing(calls))
    assert (found.recomputed, len(calls)) == (False, 1)
