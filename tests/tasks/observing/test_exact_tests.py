"""Exact tests against scipy, and over every outcome."""

import numpy as np
import pytest
from scipy.stats import hypergeom, mannwhitneyu, rankdata

from tasks.observing.exact_tests import (
    fisher_p,
    mean_mutual_information,
    mutual_information,
    rank_sum_p,
)

TABLES = [(20, 7, 5), (100, 3, 50), (400, 200, 12), (6_000, 40, 1_500), (50_000, 9_000, 20_000)]


def counts(n: int, firing: int, group: int) -> np.ndarray:
    low, high = max(0, firing + group - n), min(firing, group)
    return np.unique(np.linspace(low, high, 40).astype(np.int64))


def broadcast(both: np.ndarray, *numbers: int) -> list[np.ndarray]:
    return [both, *(np.full(len(both), number, dtype=np.int64) for number in numbers)]


@pytest.mark.parametrize(("n", "firing", "group"), TABLES)
def test_fisher_p_equals_twice_the_outward_tail_of_scipy(n: int, firing: int, group: int) -> None:
    both = counts(n, firing, group)
    upper = hypergeom.sf(both - 1, n, firing, group)
    lower = hypergeom.cdf(both, n, firing, group)
    expected = np.minimum(1, 2 * np.where(both * n >= firing * group, upper, lower))
    np.testing.assert_allclose(fisher_p(*broadcast(both, firing, group, n)), expected, rtol=1e-6, atol=1e-290)


def test_fisher_p_rejects_no_more_often_than_it_says() -> None:
    for n, firing, group in TABLES[:4]:
        both = np.arange(max(0, firing + group - n), min(firing, group) + 1)
        p = fisher_p(*broadcast(both, firing, group, n))
        chance = hypergeom.pmf(both, n, firing, group)
        for alpha in (0.001, 0.01, 0.05, 0.3):
            assert chance[p <= alpha].sum() <= alpha


def test_rank_sum_p_equals_scipys() -> None:
    rng = np.random.default_rng(0)
    for n, group in ((8, 3), (20, 10), (60, 7)):
        for digits in (1, 9):
            values = np.round(rng.exponential(size=n), digits)
            ranks, ties = rankdata(values), np.unique(values, return_counts=True)[1]
            share = ((ties**3 - ties).sum()) / (n**3 - n)
            found = rank_sum_p(ranks[:group].sum(keepdims=True), *map(np.atleast_1d, (group, n, share)))
            theirs = mannwhitneyu(values[:group], values[group:], method="asymptotic").pvalue
            assert found[0] == pytest.approx(theirs, rel=1e-9)


def test_the_strongest_rank_sums_are_never_called_rarer_than_they_are() -> None:
    """Without ties the exact p of the largest rank sum is 2 / (n choose group)."""
    for n in range(8, 40):
        group = np.arange(1, n)
        largest = group * (2 * n - group + 1) / 2.0
        p = rank_sum_p(largest, group, np.full(n - 1, n), np.zeros(n - 1))
        exact = np.minimum(1.0, 2 * hypergeom.pmf(group, n, group, group))
        assert (p >= 0.9 * exact)[exact <= 0.1].all()


def test_few_or_equal_values_say_nothing() -> None:
    one = np.array([1])
    assert rank_sum_p(np.array([7.0]), one, 7 * one, np.zeros(1)) == 1.0
    assert rank_sum_p(np.array([20.0]), one, 20 * one, np.array([0.8])) == 1.0


def information(fires: np.ndarray, group: np.ndarray) -> float:
    """Entropies of both and of the pair, by counting."""

    def entropy(values: np.ndarray) -> float:
        share = np.unique(values, return_counts=True)[1] / len(values)
        return float(-(share * np.log(share)).sum())

    return entropy(fires) + entropy(group) - entropy(2 * fires + group)


def test_mutual_information_equals_the_entropies() -> None:
    rng = np.random.default_rng(1)
    for share in (0.01, 0.2, 0.9):
        fires, group = rng.random(300) < share, rng.random(300) < 0.4
        numbers = [np.array([int(x)]) for x in ((fires & group).sum(), fires.sum(), group.sum(), 300)]
        expected = information(fires.astype(int), group.astype(int))
        assert mutual_information(*numbers)[0] == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("n", "firing", "group"), [*TABLES, (30, 30, 10), (30, 0, 10)])
def test_mean_mutual_information_equals_the_sum_over_all_counts(n: int, firing: int, group: int) -> None:
    both = np.arange(max(0, firing + group - n), min(firing, group) + 1)
    each = mutual_information(*broadcast(both, firing, group, n))
    found = mean_mutual_information(*(np.array([x], dtype=np.int64) for x in (firing, group, n)))[0]
    assert found == pytest.approx((hypergeom.pmf(both, n, firing, group) * each).sum(), rel=1e-6, abs=1e-15)


def test_mean_mutual_information_equals_that_of_shuffled_groups() -> None:
    rng = np.random.default_rng(2)
    fires, group = np.arange(60) < 9, np.arange(60) < 20
    drawn = [information(fires.astype(int), rng.permutation(group).astype(int)) for _ in range(4_000)]
    found = mean_mutual_information(np.array([9]), np.array([20]), np.array([60]))[0]
    assert found == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / 4_000**0.5)
