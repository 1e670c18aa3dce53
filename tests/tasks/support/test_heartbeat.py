"""A unit that is silent for long is reported again and again: what it does, and for how long."""

import threading
from pathlib import Path
from typing import Any

import pytest

from catalog.claims import Claim
from flows.board import Board
from tasks.common import heartbeat
from tasks.common.progress import Progress, ProgressListener, StageEvent, doing
from tasks.support.policies import Results, StageContext, UnitKey, run_unit, stage_listener
from tasks.support.reporting import Reporter, current_reporter

MUST_HEAR = 60.0
"""Seconds that a busy machine may take for what is due at once."""
EVERY = 0.05


class Told:
    """In place of the link to a server: what it is asked to show."""

    is_lost = False

    def __init__(self) -> None:
        self.said: list[tuple[float, str]] = []

    def tell(self, key: str, kind: str, data: Any, description: str | None = None) -> None:
        if kind == "progress":
            self.said.append((data, str(description)))


def run_silent_unit(root: Path, *, n_beats: int) -> tuple[list[StageEvent], Told]:
    """A unit that says two things and works on until enough was reported after each."""
    events: list[StageEvent] = []
    heard = threading.Condition()

    def hear(event: StageEvent) -> None:
        with heard:
            events.append(event)
            heard.notify()

    def wait_for_beats(what: str) -> None:
        def have_come() -> bool:
            return sum(bool(event.progress and event.progress.what == what) for event in events) > n_beats

        with heard:
            assert heard.wait_for(have_come, MUST_HEAR), f"silent while {what}"

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        doing("solving", listener)
        wait_for_beats("solving")
        listener(Progress("rows read", 3, 4))
        wait_for_beats("rows read")
        return Results([], {})

    told = Told()
    reporter: Reporter = told  # type: ignore[assignment]
    tokens = stage_listener.set(hear), current_reporter.set(reporter)
    try:
        run_unit(StageContext(root, "run"), UnitKey("slow", 1, "a", {}), compute)
    finally:
        stage_listener.reset(tokens[0])
        current_reporter.reset(tokens[1])
    return events, told


def test_a_silent_unit_says_what_it_does_and_for_how_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", EVERY)
    events, told = run_silent_unit(tmp_path, n_beats=3)
    seconds = [event.seconds for event in events if event.state == "working"]
    assert seconds == sorted(seconds)
    assert seconds[3] - seconds[0] >= 2 * EVERY, "it is repeated no more often than it should"
    assert [event.state for event in events][-2:] == ["ended", "computed"], "nothing follows the end"
    assert any(said.startswith("slow: a: solving, ") and said.endswith(" s so far") for _, said in told.said)
    assert any(share == 75.0 and said.startswith("slow: a: rows read, ") for share, said in told.said)
    assert told.said[-1] == (100.0, "slow: a")


def test_the_silence_is_shorter_than_promised() -> None:
    """At least every 5 s, with a second for a thread that waits for its turn."""
    assert heartbeat.HEARTBEAT_SECONDS <= 4.0


def test_words_without_a_count_are_shown_as_they_are() -> None:
    board = Board()
    for progress in (Progress("loading the model", 0, 0), Progress("documents read", 3, 0)):
        board.note(StageEvent("mine", "a", "working", progress))
        said = board.working["mine", "a"].amount
        assert said == ("3 documents read" if progress.done else "loading the model")
        assert board.working["mine", "a"].seconds_left is None
