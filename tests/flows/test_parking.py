"""Work that an endpoint puts off: done in its turn at the end, never for ever."""

from datetime import UTC, datetime, timedelta

from catalog.ledger import StageOutcome
from flows.parking import Parking


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
