"""Intervals of densities against replicates of documents, and what they promise."""

import numpy as np
import pytest

from tasks.common.bootstrap import FEWEST_DOCUMENTS, ratio_interval
from tasks.mining.spread import DocumentSpread


def _documents(n_documents: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Firings of four features and tokens of documents of uneven length: (G, L) and (G,)."""
    rng = np.random.default_rng(seed)
    m_G = rng.integers(20, 400, n_documents)
    shares_GL = rng.beta([0.2, 2.0, 20.0, 0.02], [2.0, 8.0, 20.0, 2.0], (n_documents, 4))
    return rng.binomial(m_G[:, None], shares_GL), m_G


def _spread(n_GL: np.ndarray, m_G: np.ndarray, cuts: list[int]) -> DocumentSpread:
    """Firings as they pass by, in stretches that end at ``cuts``: a feature's fill the ends of documents."""
    document_N = np.repeat(np.arange(len(m_G)) * 3 + 5, m_G)
    from_end_N = np.concatenate([np.arange(m)[::-1] for m in m_G])
    fires_NL = from_end_N[:, None] < np.repeat(n_GL, m_G, axis=0)
    spread = DocumentSpread(n_GL.shape[1])
    for begin, end in zip([0, *cuts], [*cuts, len(document_N)], strict=True):
        feature_E, place_E = np.nonzero(fires_NL[begin:end].T)
        spread.add(feature_E, document_N[begin:end][place_E], document_N[begin:end])
    return spread


@pytest.mark.parametrize("cuts", [[], [1], [10, 11, 12, 700, 701, 4_000], list(range(37, 9_000, 37))])
def test_sums_over_documents_do_not_depend_on_where_the_stream_is_cut(cuts: list[int]) -> None:
    n_GL, m_G = _documents(60)
    spread = _spread(n_GL, m_G, cuts)
    spread.intervals(n_GL.sum(axis=0))
    assert spread.n_squared_L.tolist() == (n_GL.astype(float) ** 2).sum(axis=0).tolist()
    assert spread.n_times_m_L.tolist() == (n_GL * m_G[:, None]).sum(axis=0).tolist()
    assert (spread.n_tokens, spread.m_squared) == (m_G.sum(), (m_G**2).sum())
    assert spread.n_documents == 60


def test_intervals_agree_with_replicates_of_documents() -> None:
    n_GL, m_G = _documents(400)
    low_L, high_L = _spread(n_GL, m_G, []).intervals(n_GL.sum(axis=0))
    for feature in range(3):
        replicates = ratio_interval(n_GL[:, feature].astype(float), m_G.astype(float))
        assert replicates.low is not None
        assert replicates.high is not None
        width = replicates.high - replicates.low
        assert abs(low_L[feature] - replicates.low) < 0.12 * width
        assert abs(high_L[feature] - replicates.high) < 0.12 * width


@pytest.mark.parametrize("n_documents", [12, 60])
def test_intervals_hold_the_true_density_as_often_as_they_say(n_documents: int) -> None:
    true_L = np.array([0.2 / 2.2, 0.2, 0.5])
    inside, of_replicates = [], []
    for seed in range(200):
        n_GL, m_G = _documents(n_documents, seed)
        low_L, high_L = _spread(n_GL[:, :3], m_G, []).intervals(n_GL[:, :3].sum(axis=0))
        inside.append((low_L <= true_L) & (true_L <= high_L))
        ends = np.array([ratio_interval(n_G.astype(float), m_G.astype(float))[:2] for n_G in n_GL[:, :3].T])
        of_replicates.append((ends[:, 0] <= true_L) & (true_L <= ends[:, 1]))
    share_L, expected_L = np.mean(inside, axis=0), np.mean(of_replicates, axis=0)
    assert (share_L >= expected_L - 0.02).all(), f"replicates hold it in {expected_L}, these in {share_L}"
    assert (share_L > (0.9 if n_documents == 60 else 0.85)).all(), "few documents hold most firings"


def test_one_document_that_fires_is_no_proof_of_a_density() -> None:
    n_GL, m_G = np.zeros((50, 2), int), np.full(50, 100)
    n_GL[7, 0] = 40
    (low, none_low), (high, none_high) = _spread(n_GL, m_G, [33]).intervals(n_GL.sum(axis=0))
    density = 40 / 5_000
    assert 0 < low < density / 3
    assert high > 3 * density
    assert np.isnan([none_low, none_high]).all(), "what never fired has no spread"


def test_the_same_share_of_every_document_is_known() -> None:
    n_GL, m_G = np.full((20, 1), 30), np.full(20, 100)
    low_L, high_L = _spread(n_GL, m_G, []).intervals(n_GL.sum(axis=0))
    assert (low_L[0], high_L[0]) == (pytest.approx(0.3), pytest.approx(0.3))


def test_few_documents_give_no_interval() -> None:
    n_GL, m_G = _documents(FEWEST_DOCUMENTS - 1)
    low_L, high_L = _spread(n_GL, m_G, []).intervals(n_GL.sum(axis=0))
    assert np.isnan(low_L).all()
    assert np.isnan(high_L).all()
