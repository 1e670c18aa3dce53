"""What a stage at work says on the page of runs: its share, or in words what it does."""

from datetime import UTC, datetime, timedelta
from typing import Any

from dashboards.components.markup import strings
from dashboards.components.timeline import Span, timeline

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


def said(headway: dict[str, Any] | None) -> str:
    span = Span("train_dictionary", "a", "running", BEGUN, BEGUN + timedelta(seconds=30), "", None, headway)
    return " ".join(strings(timeline([span])))


def test_a_share_is_shown_with_the_time_left() -> None:
    assert "25 % of tokens trained, about 1 min 30 s left" in said(
        {"what": "tokens trained", "done": 1, "total": 4}
    )


def test_words_without_a_count_are_shown_with_the_time_so_far() -> None:
    words = said({"what": "starting the training process", "done": 0, "total": 0})
    assert "starting the training process, running for 30.0 s" in words
    assert "running for 30.0 s" in said(None)
