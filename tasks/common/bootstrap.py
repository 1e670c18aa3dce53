"""Intervals by resampling documents, the units that are drawn independently.

Tokens of one document are alike, and so are its contexts: resampling tokens gives intervals that are too
narrow by the root of the design effect. Whole documents are drawn with replacement (the cluster bootstrap,
Davison and Hinkley 1997, section 3.8). Percentiles are those of Hesterberg 2015 (arXiv 1411.5279, "expanded
percentile"), which allow for few documents: the 2.5 % point becomes Phi(-sqrt(G / (G - 1)) t_(G-1)).

Shapes: G documents, R replicates.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

Floats = npt.NDArray[np.float64]

REPLICATES = 1000
CONFIDENCE = 0.95
FEWEST_DOCUMENTS = 5
"""With fewer documents there is no interval: the spread between them cannot be estimated."""


class Interval(NamedTuple):
    """Ends of an interval, None where there is none, and the documents it rests on."""

    low: float | None
    high: float | None
    n_documents: int


def document_draws(n_documents: int, seed: int = 0, n_replicates: int = REPLICATES) -> Floats:
    """How often each replicate draws each document: (R, G)."""
    rng = np.random.default_rng((seed, n_documents))
    draws = rng.multinomial(n_documents, np.full(n_documents, 1 / n_documents), n_replicates)
    return draws.astype(np.float64)


def percentiles(n_documents: int) -> tuple[float, float]:
    """The shares below which the ends of the interval lie."""
    z = t.ppf((1 - CONFIDENCE) / 2, n_documents - 1) * np.sqrt(n_documents / (n_documents - 1))
    low = float(norm.cdf(z))
    return low, 1 - low


def ends(replicates_RX: Floats, n_documents: int) -> tuple[Floats, Floats]:
    """Low and high end of every column of replicates; NaN where a replicate of it is not finite often."""
    finite_X = np.isfinite(replicates_RX).mean(axis=0) > 0.95
    known_RX = np.where(finite_X, np.where(np.isfinite(replicates_RX), replicates_RX, np.nan), 0.0)
    low_X, high_X = np.nanquantile(known_RX, percentiles(n_documents), axis=0)
    return np.where(finite_X, low_X, np.nan), np.where(finite_X, high_X, np.nan)


def document_interval(
    statistic: Callable[[Floats], Floats], n_documents: int, seed: int = 0, n_replicates: int = REPLICATES
) -> Interval:
    """Interval of a statistic of the documents.

    Args:
        statistic: From how often each document counts (R, G) to the value of each replicate (R,); NaN where
            it is not defined.
        n_documents: Documents, G.
        seed: Of the draws.
        n_replicates: Draws, R.
    """
    if n_documents < FEWEST_DOCUMENTS:
        return Interval(None, None, n_documents)
    return interval_of(statistic(document_draws(n_documents, seed, n_replicates)), n_documents)


def interval_of(values_R: Floats, n_documents: int) -> Interval:
    """The interval that the replicates of one value give; None where they are not finite often."""
    low, high = ends(values_R[:, None], n_documents)
    if np.isnan(low[0]):
        return Interval(None, None, n_documents)
    return Interval(float(low[0]), float(high[0]), n_documents)


def ratio_interval(
    numerator_G: Floats, denominator_G: Floats, seed: int = 0, weight_G: Floats | None = None
) -> Interval:
    """Interval of a ratio of sums, such as a mean per token; documents without weight do not count.

    The denominator is the weight where none is given. A replicate in which it is not positive has no value.
    """
    counted_G = (denominator_G if weight_G is None else weight_G) > 0
    above_G, below_G = numerator_G[counted_G], denominator_G[counted_G]

    def ratio(draws_RG: Floats) -> Floats:
        below_R = draws_RG @ below_G
        return np.where(below_R > 0, (draws_RG @ above_G) / np.where(below_R > 0, below_R, 1.0), np.nan)

    return document_interval(ratio, len(above_G), seed)
