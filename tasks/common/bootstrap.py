"""Intervals by resampling documents, the units that are drawn independently.

Tokens of one document are similar, and so are its contexts. Resampling tokens gives intervals that are too
narrow by the root of the design effect. Whole documents are drawn with replacement instead (the cluster
bootstrap, Davison and Hinkley 1997, section 3.8). Percentiles are those of Hesterberg 2015 (arXiv
1411.5279, "expanded percentile"), which correct for few documents: the 2.5 % point becomes Phi(-sqrt(G / (G
- 1)) t_(G-1)).

Shapes: G documents, R replicates.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

Floats = npt.NDArray[np.float64]

REPLICATES = 1000
"""The usual number for 95 % percentiles: 25 replicates lie beyond each end."""
CONFIDENCE = 0.95
"""The usual level; tables and pages say 95 %."""
FEWEST_DOCUMENTS = 5
"""With fewer documents there is no interval, because the spread between them cannot be estimated."""
_DRAWS_AT_ONCE = 2**23


class Interval(NamedTuple):
    """Ends of an interval, None if there is none, and the number of documents behind it."""

    low: float | None
    high: float | None
    n_documents: int


def document_draws(n_documents: int, seed: int = 0, n_replicates: int = REPLICATES) -> Floats:
    """How often each replicate draws each document: (R, G)."""
    rng = np.random.default_rng((seed, n_documents))
    draws = rng.multinomial(n_documents, np.full(n_documents, 1 / n_documents), n_replicates)
    return draws.astype(np.float64)


def draw_blocks(
    n_documents: int, seed: int = 0, n_replicates: int = REPLICATES, width: int = 1
) -> Iterator[Floats]:
    """The draws of `document_draws` in blocks, so that memory does not grow with documents times replicates.

    Args:
        n_documents: Documents, G.
        seed: Seed of the draws.
        n_replicates: Number of draws, R.
        width: Values that the caller makes of one draw, where they are more than the documents.
    """
    rng = np.random.default_rng((seed, n_documents))
    size = max(_DRAWS_AT_ONCE // max(n_documents, width), 1)
    for start in range(0, n_replicates, size):
        n = min(size, n_replicates - start)
        yield rng.multinomial(n_documents, np.full(n_documents, 1 / n_documents), n).astype(np.float64)


def percentiles(n_documents: int) -> tuple[float, float]:
    """The shares of replicates below which the ends of the interval lie."""
    z = stdtrit(n_documents - 1, (1 - CONFIDENCE) / 2) * np.sqrt(n_documents / (n_documents - 1))
    low = float(ndtr(z))
    return low, 1 - low


def ends(replicates_RX: Floats, n_documents: int) -> tuple[Floats, Floats]:
    """Low and high end of every column of replicates; NaN if too few of its replicates are finite."""
    finite_X = np.isfinite(replicates_RX).mean(axis=0) > 0.95
    known_RX = np.where(finite_X, np.where(np.isfinite(replicates_RX), replicates_RX, np.nan), 0.0)
    low_X, high_X = np.nanquantile(known_RX, percentiles(n_documents), axis=0)
    return np.where(finite_X, low_X, np.nan), np.where(finite_X, high_X, np.nan)


def document_interval(
    statistic: Callable[[Floats], Floats], n_documents: int, seed: int = 0, n_replicates: int = REPLICATES
) -> Interval:
    """Interval of a statistic of the documents.

    Args:
        statistic: Maps how often each document counts (R, G) to the value of each replicate (R,); NaN
            if it is undefined.
        n_documents: Documents, G.
        seed: Of the draws.
        n_replicates: Draws, R.
    """
    if n_documents < FEWEST_DOCUMENTS:
        return Interval(None, None, n_documents)
    replicates = [statistic(draws_RG) for draws_RG in draw_blocks(n_documents, seed, n_replicates)]
    return interval_of(np.concatenate(replicates), n_documents)


def interval_of(values_R: Floats, n_documents: int) -> Interval:
    """The interval from the replicates of one value; None if too few are finite."""
    low, high = ends(values_R[:, None], n_documents)
    if np.isnan(low[0]):
        return Interval(None, None, n_documents)
    return Interval(float(low[0]), float(high[0]), n_documents)


def mean_interval(values_U: npt.ArrayLike, seed: int = 0) -> Interval:
    """Interval of the mean of units that are drawn one by one, such as latents; they are its documents."""
    values = np.asarray(values_U, dtype=np.float64)
    return ratio_interval(values, np.ones(len(values)), seed)


def ratio_interval(
    numerator_G: Floats, denominator_G: Floats, seed: int = 0, weight_G: Floats | None = None
) -> Interval:
    """Interval of a ratio of sums, such as a mean per token; documents without weight do not count.

    The denominator is the weight by default. A replicate with a denominator that is not positive has no
    value.
    """
    counted_G = (denominator_G if weight_G is None else weight_G) > 0
    above_G, below_G = numerator_G[counted_G], denominator_G[counted_G]

    def ratio(draws_RG: Floats) -> Floats:
        below_R = draws_RG @ below_G
        return np.where(below_R > 0, (draws_RG @ above_G) / np.where(below_R > 0, below_R, 1.0), np.nan)

    return document_interval(ratio, len(above_G), seed)


def share_intervals(
    n_L: npt.ArrayLike,
    n_squared_L: Floats,
    n_times_m_L: Floats,
    n_tokens: int,
    m_squared: int,
    n_documents: int,
) -> tuple[Floats, Floats]:
    """Intervals of many shares of tokens from sums over documents, without replicates.

    The share is a ratio of sums over documents, whose variance is that of the residuals n - p m (Cochran
    1977, section 6.3). The binomial variance over that variance is the effective number of independent
    tokens, and the interval is Wilson's for this number (Korn and Graubard 1998) with the t of G - 1
    degrees of freedom. It stays within 0 and 1. For a latent that fires in only one document it stays above
    0, where percentiles of replicates reach 0.

    Args:
        n_L: Counted tokens of each of L shares.
        n_squared_L: Sum over documents of the squares of their counts.
        n_times_m_L: Sum over documents of their counts times their tokens.
        n_tokens: Tokens of all documents.
        m_squared: Sum over documents of the squares of their tokens.
        n_documents: Documents, G.

    Returns:
        Low and high ends (L); NaN where nothing was counted and with fewer than ``FEWEST_DOCUMENTS``.
    """
    counted_L = np.asarray(n_L, dtype=np.float64)
    if n_documents < FEWEST_DOCUMENTS:
        return np.full(counted_L.shape, np.nan), np.full(counted_L.shape, np.nan)
    p_L = counted_L / n_tokens
    residuals_L = np.maximum(n_squared_L - 2 * p_L * n_times_m_L + p_L**2 * m_squared, 0.0)
    variance_L = n_documents / (n_documents - 1) * residuals_L / n_tokens**2
    binomial_L = p_L * (1 - p_L)
    per_token_L = np.divide(variance_L, binomial_L, out=np.zeros_like(p_L), where=binomial_L > 0)
    z = float(stdtrit(n_documents - 1, (1 + CONFIDENCE) / 2))
    pull_L = z**2 * per_token_L
    middle_L = (p_L + pull_L / 2) / (1 + pull_L)
    half_L = z * np.sqrt(variance_L + z**2 * per_token_L**2 / 4) / (1 + pull_L)
    known_L = counted_L > 0
    return np.where(known_L, middle_L - half_L, np.nan), np.where(known_L, middle_L + half_L, np.nan)
