"""The distribution of direct effects against SciPy, and what its null tells apart."""

import numpy as np
import pytest
import torch
from scipy import stats

from tasks.mining.logit_distribution import N_BINS, logit_distribution
from tasks.mining.logits import Unembedding, logit_effects

N_DIMENSIONS, N_TOKENS = 64, 400


@pytest.fixture(scope="module")
def unembedding() -> Unembedding:
    """Columns of very different norms, as common and rare tokens have: tails without a meaning."""
    generator = torch.Generator().manual_seed(3)
    norms = torch.exp(torch.randn(N_TOKENS, generator=generator) / 4)
    w_u = torch.randn(N_DIMENSIONS, N_TOKENS, generator=generator) * norms
    return Unembedding(w_u, None, [str(i) for i in range(N_TOKENS)])


def test_moments_and_histograms_are_those_of_the_plain_functions() -> None:
    effects = np.random.default_rng(0).gamma(2.0, size=(5, 3_000)).astype(np.float32)
    found = logit_distribution(effects)
    assert found.skewness_L == pytest.approx(stats.skew(effects, axis=1), rel=1e-3)
    assert found.kurtosis_L == pytest.approx(stats.kurtosis(effects, axis=1), rel=1e-3)
    for row, counts in zip(effects, found.counts_LH, strict=True):
        expected, _ = np.histogram(row.astype(np.float64), bins=N_BINS)
        assert counts.sum() == len(row)
        assert np.abs(counts - expected).sum() <= 4, "a number at an edge may fall to either side"


def test_equal_effects_have_no_distribution() -> None:
    found = logit_distribution(np.full((1, 50), 2.0, np.float32))
    assert np.isnan(found.skewness_L[0])
    assert found.counts_LH[0].tolist() == [50, *[0] * (N_BINS - 1)]


def test_directions_of_a_few_tokens_pass_the_null(unembedding: Unembedding) -> None:
    """Planted: each direction is the sum of the unembedding of three tokens."""
    w_u = unembedding.W_U - unembedding.W_U.mean(dim=1, keepdim=True)
    planted = torch.stack([(w_u / w_u.norm(dim=0))[:, [i, i + 50, i + 90]].sum(dim=1) for i in range(40)])
    found = logit_effects(planted, unembedding, 3)
    assert (found.distribution.skewness_L > found.null.skewness).mean() > 0.5
    shuffled = planted[:, torch.randperm(N_DIMENSIONS, generator=torch.Generator().manual_seed(1))]
    of_shuffled = logit_effects(shuffled, unembedding, 3).distribution
    assert (of_shuffled.skewness_L > found.null.skewness).mean() <= 0.15


def test_random_directions_stay_below_the_null_in_nineteen_of_twenty(unembedding: Unembedding) -> None:
    generator = torch.Generator().manual_seed(8)
    found = logit_effects(torch.randn(2_000, N_DIMENSIONS, generator=generator), unembedding, 3)
    for values, null in (
        (found.distribution.skewness_L, found.null.skewness),
        (found.distribution.kurtosis_L, found.null.kurtosis),
    ):
        assert 0.02 < (values > null).mean() < 0.1
    assert found.null.kurtosis > 0.3, "the norms of the columns alone make tails"
