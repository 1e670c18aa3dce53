"""AUROC, its variance and its interval against worked examples, pairs counted one by one, and coverage."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.autointerp.ranking import auroc, auroc_interval, auroc_variance, hanley_mcneil
from tests.searching import examples


def test_worked_example_with_a_tie() -> None:
    """Six items, 7.5 of 9 pairs in the right order."""
    margin = np.asarray([0.9, 0.8, 0.8, 0.4, 0.3, 0.1])
    truth = np.asarray([True, True, False, True, False, False])
    assert auroc(margin, truth) == pytest.approx(0.8333333333)
    assert auroc(-margin, truth) == pytest.approx(1 - 0.8333333333)
    assert auroc(np.zeros(6), truth) == 0.5
    assert math.isnan(auroc(margin, np.ones(6, bool)))
    assert math.isnan(auroc_variance(margin, np.ones(6, bool)))


def test_variance_by_hand() -> None:
    """Placements of the firing items: 1, 5/6, 2/3; of the silent ones: 1/2, 1, 1."""
    margin = np.asarray([0.9, 0.8, 0.8, 0.4, 0.3, 0.1])
    truth = np.asarray([True, True, False, True, False, False])
    of_firing, of_silent = np.var([1, 5 / 6, 2 / 3], ddof=1), np.var([1 / 2, 1, 1], ddof=1)
    assert auroc_variance(margin, truth) == pytest.approx((of_firing + of_silent) / 3)


def test_hanley_mcneil_and_the_ends_of_the_interval() -> None:
    """Of equal classes their formula is a(1-a)[1 + (n-1)(q1 + q2 terms)]/n²; the ends solve the equation."""
    a, n = 0.8, 20
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    classic = (a * (1 - a) + (n - 1) * (q1 - a * a) + (n - 1) * (q2 - a * a)) / (n * n)
    assert hanley_mcneil(a, n, n) == pytest.approx(classic)
    low, high = auroc_interval(a, n, n)
    for end in (low, high):
        assert abs(a - end) == pytest.approx(1.959964 * math.sqrt(hanley_mcneil(end, n, n)), rel=1e-4)
    assert 0.5 < auroc_interval(1.0, 8, 8).low < 1.0 == auroc_interval(1.0, 8, 8).high
    assert auroc_interval(0.0, 8, 8).low == pytest.approx(0.0)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_interval_covers_the_truth_about_as_often_as_it_says(shift: float) -> None:
    """Normal margins of 20 firing and 20 silent items: the true area is Φ(shift/√2)."""
    rng = np.random.default_rng(0)
    truth = np.asarray([True] * 20 + [False] * 20)
    true_area = 0.5 * (1 + math.erf(shift / 2))
    areas = [auroc(rng.normal(0, 1, 40) + shift * truth, truth) for _ in range(2_000)]
    bounds = [auroc_interval(area, 20, 20) for area in areas]
    assert 0.93 <= np.mean([b.low <= true_area <= b.high for b in bounds]) <= 0.985


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=1, max_size=30))
def test_is_the_share_of_pairs_in_the_right_order(items: list[tuple[bool, int]]) -> None:
    firing = [margin for truth, margin in items if truth]
    silent = [margin for truth, margin in items if not truth]
    pairs = [(a > b) + 0.5 * (a == b) for a in firing for b in silent]
    found = auroc(np.asarray([m for _, m in items], float), np.asarray([t for t, _ in items]))
    assert math.isnan(found) if not pairs else found == pytest.approx(float(np.mean(pairs)))
