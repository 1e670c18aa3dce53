"""Scores against worked examples and against their definitions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.autointerp.metrics import METRICS, UNANSWERED, confusion, interval, wilson
from tests.searching import examples

TRUTH = np.asarray([True] * 6 + [False] * 12)
ANSWERS = np.asarray([[1, 1, 1, 1, 0, 0, 1, 1, 1] + [0] * 9], np.int8)


def test_worked_example() -> None:
    """Six active and twelve silent items: 4 hits, 2 misses, 3 false alarms, 9 rejections."""
    counts = confusion(ANSWERS, TRUTH)
    assert [float(c[0]) for c in (counts.tp, counts.fn, counts.fp, counts.tn)] == [4, 2, 3, 9]
    expected = {
        "balanced_accuracy": 0.7083333333,
        "specificity": 0.75,
        "recall": 0.6666666667,
        "mcc": 0.402911482,
    }
    assert {name: float(METRICS[name](counts)[0]) for name in expected} == pytest.approx(expected)


def test_constant_judges() -> None:
    counts = confusion(np.asarray([[1] * 18, [0] * 18], np.int8), TRUTH)
    assert METRICS["balanced_accuracy"](counts).tolist() == [0.5, 0.5]
    assert METRICS["recall"](counts).tolist() == [1.0, 0.0]
    assert METRICS["specificity"](counts).tolist() == [0.0, 1.0]
    assert np.isnan(METRICS["mcc"](counts)).all()


def test_unanswered_items_count_as_chance_in_the_pessimistic_score() -> None:
    """Balanced accuracy 0.9 on 60 % answered is 0.74."""
    truth = np.asarray([True] * 10 + [False] * 10 + [True, False] * 6 + [True, False])
    right = [1] * 9 + [0] + [0] * 9 + [1]
    answers = np.asarray([[*right, *[UNANSWERED] * 14]], np.int8)
    counts = confusion(answers[:, :34], truth)
    share = float(counts.answered_share[0])
    assert METRICS["balanced_accuracy"](counts)[0] == pytest.approx(0.9)
    assert METRICS["pessimistic_balanced_accuracy"](counts)[0] == pytest.approx(
        0.9 * share + 0.5 * (1 - share)
    )
    assert pytest.approx(0.74) == 0.9 * 0.6 + 0.5 * 0.4


def test_no_stored_metric_is_high_for_a_judge_that_says_yes_to_items_that_mostly_fire() -> None:
    """At 69 % firing items precision of such a judge was 0.69 and F1 0.82, whatever the label."""
    truth = np.asarray([True] * 69 + [False] * 31)
    counts = confusion(np.ones((1, 100), np.int8), truth)
    values = {name: float(compute(counts)[0]) for name, compute in METRICS.items() if name != "recall"}
    assert {name for name, value in values.items() if value > 0.5} == set()


def test_nothing_answered_has_no_score_but_a_pessimistic_one() -> None:
    counts = confusion(np.full((1, 18), UNANSWERED, np.int8), TRUTH)
    assert math.isnan(METRICS["balanced_accuracy"](counts)[0])
    assert METRICS["pessimistic_balanced_accuracy"](counts)[0] == 0.5
    assert interval("balanced_accuracy", counts) is None


def test_wilson_known_values() -> None:
    """8 of 10: 0.4902 to 0.9433 (Wilson 1927, z = 1.96)."""
    assert wilson(8, 10) == pytest.approx((0.4901, 0.9433), abs=2e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(5, 5).high == pytest.approx(1.0)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Balanced accuracy of a judge with recall 0.8 and specificity 0.7 on 20 + 20 items, 2,000 times."""
    rng = np.random.default_rng(0)
    truth = np.asarray([True] * 20 + [False] * 20)
    answers = np.where(truth, rng.random((2_000, 40)) < 0.8, rng.random((2_000, 40)) < 0.3).astype(np.int8)
    counts = confusion(answers, truth)
    bounds = [interval("balanced_accuracy", counts, i) for i in range(2_000)]
    covered = np.mean([b is not None and b.low <= 0.75 <= b.high for b in bounds])
    assert 0.93 <= covered <= 0.985


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([-1, 0, 1])), min_size=1, max_size=30))
def test_values_lie_in_their_intervals(items: list[tuple[bool, int]]) -> None:
    counts = confusion(np.asarray([[a for _, a in items]], np.int8), np.asarray([t for t, _ in items]))
    for name, compute in METRICS.items():
        value = float(compute(counts)[0])
        bounds = interval(name, counts) if math.isfinite(value) else None
        if math.isfinite(value):
            assert -1 <= value <= 1
        if bounds is not None:
            assert 0 <= bounds.low <= value + 1e-9
            assert value - 1e-9 <= bounds.high <= 1
