"""Shifts between groups of documents against their formulas, planted and shuffled."""

import numpy as np
import pytest
from scipy.stats import false_discovery_control, fisher_exact
from scipy.stats.contingency import odds_ratio

from catalog.errors import UserError
from tasks.observing.group_shifts import GroupCounts, check_sizes, count_groups, group_shifts, log_odds

N = 300


def groups(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice([-1, 0, 1], N, p=[0.2, 0.5, 0.3])


def shifts(make, max_GL: np.ndarray, group_G: np.ndarray):
    block_of, _ = make
    a, b = count_groups([block_of(max_GL)], group_G, np.full(N, 40), max_GL.shape[1])
    return group_shifts(a, b, 5)


def test_counts_equal_those_of_the_dense_table(make) -> None:
    block_of, drawn = make
    max_GL, group_G, tokens_G = drawn(N, 30), groups(), np.arange(N) % 50
    max_GL[tokens_G == 0] = 0
    for group, found in enumerate(count_groups([block_of(max_GL)], group_G, tokens_G, 30)):
        inside = (group_G == group) & (tokens_G > 0)
        assert (found.n_documents, found.n_tokens) == (inside.sum(), tokens_G[inside].sum())
        assert found.documents_L.tolist() == (max_GL[inside] > 0).sum(axis=0).tolist()
        assert found.tokens_L.tolist() == found.documents_L.tolist()


def test_rows_follow_the_formulas(make) -> None:
    max_GL, group_G = make[1](N, 30), groups()
    rows = shifts(make, max_GL, group_G).table.to_pylist()
    assert [row["feature_index"] for row in rows] == [
        f for f in range(30) if (max_GL[group_G >= 0, f] > 0).sum() >= 5
    ]
    for row in rows:
        fires = max_GL[:, row["feature_index"]] > 0
        table = [[(fires & (group_G == g)).sum(), (~fires & (group_G == g)).sum()] for g in (1, 0)]
        (b, not_b), (a, not_a) = np.array(table) + 0.5
        assert row["effect"] == pytest.approx(np.log(b * not_a / (a * not_b)))
        half = 1.96 * np.sqrt(1 / a + 1 / b + 1 / not_a + 1 / not_b)
        assert row["ci_high"] - row["effect"] == pytest.approx(half, rel=1e-4)
        assert row["effect"] - row["ci_low"] == pytest.approx(half, rel=1e-4)
        tails = [fisher_exact(table, alternative=side).pvalue for side in ("less", "greater")]
        assert row["p_value"] == pytest.approx(min(1.0, 2 * min(tails)), rel=1e-6)
        assert (row["n_firing_b"], row["n_firing_a"]) == (table[0][0], table[1][0])
        assert row["density_a"] == pytest.approx(table[1][0] / (40 * (group_G == 0).sum()))
    q = false_discovery_control([row["p_value"] for row in rows])
    np.testing.assert_allclose([row["q_value"] for row in rows], q)


def test_the_interval_lies_near_the_exact_one() -> None:
    effect, half = log_odds(np.array([30]), 100, np.array([60]), 120)
    exact = odds_ratio(np.array([[60, 60], [30, 70]])).confidence_interval(0.95)
    assert (effect - half)[0] == pytest.approx(np.log(exact.low), abs=0.1)
    assert (effect + half)[0] == pytest.approx(np.log(exact.high), abs=0.1)


def test_sides_turned_round_give_the_opposite_effect(make) -> None:
    max_GL, group_G = make[1](N, 30), groups()
    there = shifts(make, max_GL, group_G).table
    back = shifts(make, max_GL, np.where(group_G >= 0, 1 - group_G, -1)).table
    np.testing.assert_allclose(np.array(there["effect"]), -np.array(back["effect"]))
    np.testing.assert_allclose(np.array(there["p_value"]), np.array(back["p_value"]), rtol=1e-9)


def test_a_feature_of_one_group_comes_first(make) -> None:
    max_GL, group_G = make[1](N, 200), groups()
    rng = np.random.default_rng(1)
    max_GL[:, 150] = rng.random(N) < np.where(group_G == 1, 0.7, 0.05)
    rows = sorted(shifts(make, max_GL, group_G).table.to_pylist(), key=lambda row: row["p_value"])
    assert rows[0]["feature_index"] == 150
    assert rows[0]["q_value"] < 1e-10
    assert rows[0]["ci_low"] > 2


def test_shuffled_documents_differ_in_nothing(make) -> None:
    max_GL = make[1](N, 300)
    shares = []
    for seed in range(20):
        found = shifts(make, max_GL, groups(seed + 50))
        shares.append(found.facts["n_found"] / found.facts["n_features"])
    assert max(shares) <= 0.05


def test_shuffled_nights_add_nothing(make) -> None:
    """Few documents against all earlier ones, as when a corpus grows."""
    max_GL = make[1](N, 300)
    shares = []
    for seed in range(20):
        newest = np.random.default_rng(seed).permutation(N) < 6
        found = shifts(make, max_GL, newest.astype(int))
        shares.append(found.facts["n_found"] / found.facts["n_features"])
    assert max(shares) <= 0.05


def test_groups_without_documents_are_refused() -> None:
    with pytest.raises(UserError, match="'addresses' has 0 documents"):
        check_sizes("labels source: reviews | addresses", {"reviews": 9, "addresses": 0}, 5)
    check_sizes("labels", {"a": 5, "b": 5}, 5)


def test_features_that_are_silent_have_no_row() -> None:
    silent = GroupCounts(10, 100, np.zeros(4, dtype=int), np.zeros(4, dtype=int))
    assert group_shifts(silent, silent, 5).table.num_rows == 0
