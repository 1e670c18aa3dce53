"""What is called above chance: 2.5 % under any judge that knows nothing, all under one that knows."""

import math

import numpy as np
import pytest

from tasks.autointerp.chance import MIN_DONORS, donors_needed, is_above, pooled, with_chance
from tests.tasks.autointerp.null_judges import JUDGES, RANKERS, headline_rows, oracle, ranked_rows_of, rows_of

N = 600
NOMINAL = 0.025
MOST = NOMINAL + 3 * math.sqrt(NOMINAL * (1 - NOMINAL) / N)


def share_above(rows: list[dict[str, object]]) -> float:
    assert all(row["above_chance"] is not None for row in rows)
    return float(np.mean([bool(row["above_chance"]) for row in rows]))


@pytest.mark.parametrize("shuffles", [1, 20])
@pytest.mark.parametrize("judge", JUDGES)
def test_a_judge_that_knows_nothing_is_above_chance_as_often_as_the_interval_says(
    judge: str, shuffles: int
) -> None:
    rows = rows_of(JUDGES[judge], N if shuffles == 1 else 300, shuffles=shuffles)
    most = MOST if shuffles == 1 else NOMINAL + 3 * math.sqrt(NOMINAL * (1 - NOMINAL) / 300)
    for variant in ("random", "neighbour", "mixed"):
        chosen = headline_rows(rows, variant)
        assert share_above(chosen) <= most, (judge, variant)
        assert min(row["chance"] for row in chosen) >= 0.5


@pytest.mark.parametrize("shuffles", [1, 20])
@pytest.mark.parametrize("ranker", RANKERS)
def test_margins_that_know_nothing_are_above_chance_as_often_as_the_interval_says(
    ranker: str, shuffles: int
) -> None:
    n = N if shuffles == 1 else 300
    rows = ranked_rows_of(RANKERS[ranker], n, shuffles=shuffles)
    most = NOMINAL + 3 * math.sqrt(NOMINAL * (1 - NOMINAL) / n)
    for variant in ("random", "neighbour", "mixed"):
        chosen = headline_rows(rows, variant, "auroc")
        assert len(chosen) == n
        assert share_above(chosen) <= most, (ranker, variant)
        assert min(row["chance"] for row in chosen) >= 0.5


def test_margins_that_know_are_above_chance() -> None:
    def weak(feature, own):  # type: ignore[no-untyped-def]
        return feature.generator.normal(0, 1, len(feature.items)) + 1.5 * own * feature.items.truth_I

    chosen = headline_rows(ranked_rows_of(weak, 300), "mixed", "auroc")
    assert np.mean([row["value"] for row in chosen]) == pytest.approx(0.856, abs=0.02)
    assert share_above(chosen) > 0.9


def test_the_rules_that_this_one_replaces_fail_the_same_judges() -> None:
    """One donor as a constant is wrong for a coin; the mean of all donors for a judge that goes by looks."""
    coin, looks = (headline_rows(rows_of(JUDGES[name], N)) for name in ("coin", "looks"))
    others = [*coin[1:], coin[0]]
    one_donor = np.mean([row["ci_low"] > other["value"] for row, other in zip(coin, others, strict=True)])
    mean = max(0.5, float(np.mean([row["value"] for row in looks])))
    all_donors = np.mean([row["ci_low"] > mean for row in looks])
    assert one_donor > 2 * MOST
    assert all_donors > 2 * MOST


def test_a_judge_that_knows_is_above_chance() -> None:
    rows = headline_rows(rows_of(oracle, 300))
    assert share_above(rows) == 1.0
    assert {row["chance"] for row in rows} == {0.5}


def test_a_weak_but_real_explanation_is_seen() -> None:
    """Recall and specificity of 0.8 against donors that toss coins: most features are above chance."""

    def fair(feature, own):  # type: ignore[no-untyped-def]
        right = feature.generator.random(len(feature.items)) < 0.8
        return (
            np.where(right, feature.items.truth_I, ~feature.items.truth_I).astype(np.int8)
            if own
            else feature.coin()
        )

    assert share_above(headline_rows(rows_of(fair, 300), "mixed")) > 0.9


def test_few_donors_leave_it_open() -> None:
    rows = headline_rows(rows_of(oracle, MIN_DONORS - 1))
    assert {row["above_chance"] for row in rows} == {None}
    assert {row["n_donors"] for row in rows} == {MIN_DONORS - 1}
    assert {row["above_chance"] for row in headline_rows(rows_of(oracle, 4, shuffles=5))} == {True}


def test_small_dictionaries_get_more_donors_and_large_ones_pay_for_no_more_than_asked() -> None:
    assert [donors_needed(1, n) for n in (4, 20, 21, 10_000)] == [5, 1, 1, 1]
    assert donors_needed(20, 10_000) == 20
    assert donors_needed(0, 4) == 0


def test_no_donors_no_chance() -> None:
    row = {"metric": "balanced_accuracy", "variant": "mixed", "value": 0.9, "ci_low": 0.8, "donors": []}
    (done,) = with_chance([{**row, "donor_variance": None}])
    assert (done["chance"], done["above_chance"], done["n_donors"]) == (None, None, 0)


def test_pooling_by_hand() -> None:
    """d = 0.4, 0.6, 0.8 with variance 0.01: p = 0.6, t² = 0.04 - 0.01, weight 0.75."""
    levels = pooled(np.asarray([0.4, 0.6, 0.8]), np.full(3, 0.01), 0.0)
    assert levels.chance_F == pytest.approx([0.45, 0.6, 0.75])
    spread = math.sqrt(0.75 * 0.01 + 0.25**2 * 0.04 / 3)
    assert levels.high_F - levels.chance_F == pytest.approx([1.959964 * spread] * 3)
    assert pooled(np.asarray([0.4, 0.6]), np.full(2, 0.05), 0.5).chance_F.tolist() == [0.5, 0.5]


def test_the_uncertainty_of_chance_counts() -> None:
    assert is_above(0.7, 0.6, 0.55, 0.55)
    assert not is_above(0.7, 0.6, 0.55, 0.7)
