"""Work that an endpoint puts off: done in its turn at the end, never for ever."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from catalog.ledger import StageOutcome
from flows.evidence import _score_stage
from flows.parking import Parking
from tasks.autointerp.scorers.detection import DetectionConfig
from tasks.support.score_units import ScoreUnit


def outcome(seconds: float | None, n_left: int = 3) -> StageOutcome:
    resume_at = None if seconds is None else (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    facts = {"complete": False, "resume_at": resume_at, "n_left": n_left, "n_failed": 0}
    return StageOutcome("f", "explain_features", True, facts=facts)


def test_the_earliest_is_done_first_and_what_is_due_too_late_is_left() -> None:
    parking, done = Parking(), list[str]()
    for label, seconds in (("late", 500.0), ("second", 0.2), ("first", 0.0)):
        assert parking.add(label, outcome(seconds), lambda label=label: done.append(label))
    parking.finish(most_seconds=60)
    assert done == ["first", "second"]
    assert parking.waiting == []


def test_what_nobody_put_off_is_not_kept() -> None:
    assert not Parking().add("a", outcome(None), lambda: None)


def test_work_that_gets_no_further_is_given_up_and_work_that_does_is_not() -> None:
    parking = Parking()
    tries: dict[str, int] = {"stuck": 0, "moving": 0}

    def again(label: str) -> None:
        tries[label] += 1
        n_left = 9 if label == "stuck" else 9 - tries[label]
        seconds = 0.0 if n_left else None
        parking.add(label, outcome(seconds, n_left), lambda: again(label))

    for label in tries:
        parking.add(label, outcome(0.0, 9), lambda label=label: again(label))
    parking.finish()
    assert tries == {"stuck": 3, "moving": 9}


def test_every_dictionary_waits_for_a_judge_that_asks_to_wait() -> None:
    """The judge is one for all of them, and asked for each: that is no try in vain."""
    parking = Parking()
    run = SimpleNamespace(parking=parking, branch=lambda label: nullcontext())
    walk: Any = SimpleNamespace(run=run, do=lambda stage, unit: outcome(60.0))
    for index in range(6):
        ids = {"dictionary_id": f"d{index}", "activation_set_id": "s", "corpus_id": "c"}
        explained = StageOutcome("e", "explain_features", True, facts={**ids, "explainer": "contexts"})
        _score_stage(walk, ScoreUnit(DetectionConfig(endpoint="judge"), explained))
    assert len(parking.waiting) == 6
