"""Streaming correlation, its null by circular shifts, and false-discovery control."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.stats import false_discovery_control

from tasks.common.significance import benjamini_hochberg
from tasks.matching.correlation import Correlator, circular_shift, shift_p_values

GOLDEN = json.loads((Path(__file__).resolve().parents[2] / "golden" / "matching.json").read_text())


def random_codes(n: int, width: int, density: float, rng: np.random.Generator) -> np.ndarray:
    return rng.exponential(size=(n, width)) * (rng.random((n, width)) < density)


def all_correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.concatenate([r for _, r in Correlator(csr_array(a), csr_array(b)).blocks()])


def test_golden_vector_of_streaming_correlation() -> None:
    case = GOLDEN["G12_streaming_corr"]
    r = all_correlations(np.array(case["a"])[:, None], np.array(case["b"])[:, None])
    assert r[0, 0] == pytest.approx(case["r"], abs=1e-9)


def test_equals_numpy_on_random_sparse_codes() -> None:
    rng = np.random.default_rng(0)
    a, b = random_codes(400, 30, 0.1, rng), random_codes(400, 20, 0.1, rng)
    expected = np.corrcoef(a.T, b.T)[:30, 30:]
    np.testing.assert_allclose(all_correlations(a, b), expected, atol=1e-12)


def test_a_feature_that_does_not_vary_correlates_with_nothing() -> None:
    rng = np.random.default_rng(0)
    a = np.full((50, 1), 3.0)
    assert all_correlations(a, random_codes(50, 5, 0.3, rng)) == pytest.approx(np.zeros((1, 5)))


def test_shift_rotates_within_documents_by_a_non_zero_step() -> None:
    document = np.array([0] * 7 + [1] + [2] * 12)
    order = circular_shift(document, np.random.default_rng(1))
    assert document[order].tolist() == document.tolist()
    assert sorted(order.tolist()) == list(range(20))
    assert order[0] != 0
    assert order[7] == 7
    steps = (order[8:] - np.arange(8, 20)) % 12
    assert len(set(steps.tolist())) == 1
    assert steps[0] != 0


def test_p_values_find_a_planted_copy_and_resolve_as_stated() -> None:
    rng = np.random.default_rng(2)
    document = np.repeat(np.arange(40), 50)
    a, b = random_codes(2_000, 12, 0.03, rng), random_codes(2_000, 12, 0.03, rng)
    b[:, 4] = a[:, 7]
    p = shift_p_values(Correlator(csr_array(a), csr_array(b)), document, 99, seed=0)
    assert p[7] == pytest.approx(1 / 100)
    assert p.min() >= 1 / 100
    assert np.delete(p, 7).mean() > 0.25


def test_p_values_do_not_depend_on_the_number_of_threads() -> None:
    rng = np.random.default_rng(3)
    document = np.repeat(np.arange(20), 30)
    correlator = Correlator(
        csr_array(random_codes(600, 8, 0.05, rng)), csr_array(random_codes(600, 8, 0.05, rng))
    )
    one, four = (shift_p_values(correlator, document, 50, 5, n_threads=n) for n in (1, 4))
    assert one.tolist() == four.tolist()


def test_unrelated_features_stay_above_the_false_discovery_rate() -> None:
    """Shuffled tokens give any q <= 0.05 in at most 3 of 20 seeds."""
    document = np.repeat(np.arange(60), 40)
    n_alarms = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        a = random_codes(2_400, 25, 0.05, rng)
        b = np.concatenate([rng.permutation(part) for part in np.split(a, 60)])
        p = shift_p_values(Correlator(csr_array(a), csr_array(b)), document, 199, seed)
        n_alarms += bool((benjamini_hochberg(p) <= 0.05).any())
    assert n_alarms <= 3


def test_q_values_equal_scipys() -> None:
    p = np.random.default_rng(4).random(200) ** 3
    np.testing.assert_allclose(benjamini_hochberg(p), false_discovery_control(p, method="bh"), rtol=1e-12)
