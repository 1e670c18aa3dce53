"""How the direct effects of a feature are distributed over the vocabulary, against random directions.

A direction that promotes a few tokens has a heavy tail: positive skewness and excess kurtosis of its effects
(methods B11.1). A heavy tail alone proves nothing, because the columns of the unembedding differ in norm: the
null is the 95 % quantile of the same measure over random directions. Shapes: B features of a block, V
vocabulary, L features, H bins.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

N_BINS = 24
N_RANDOM, NULL_QUANTILE = 256, 0.95
"""A dozen of the random directions lie above the null."""


class LogitDistribution(NamedTuple):
    """Histogram from the lowest to the highest effect, and moments; NaN where all effects are equal."""

    low_L: np.ndarray
    high_L: np.ndarray
    counts_LH: np.ndarray
    skewness_L: np.ndarray
    kurtosis_L: np.ndarray
    """Excess: 0 for a normal distribution."""


class LogitNull(NamedTuple):
    """What 95 % of random directions stay below."""

    skewness: float
    kurtosis: float


def logit_distribution(effects_BV: np.ndarray) -> LogitDistribution:
    """Histograms and moments of rows of effects, one row at a time because that stays in the cache."""
    moments = [_moments(row_V) for row_V in effects_BV]
    low_L, high_L, skewness_L, kurtosis_L = (
        np.array(column, np.float32) for column in zip(*moments, strict=True)
    )
    counts = [_counts(row_V, low, high) for row_V, low, high in zip(effects_BV, low_L, high_L, strict=True)]
    return LogitDistribution(low_L, high_L, np.stack(counts), skewness_L, kurtosis_L)


def joined(parts: Sequence[LogitDistribution]) -> LogitDistribution:
    """Several blocks of features as one."""
    return LogitDistribution(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def random_directions(n_dimensions: int, seed: int) -> torch.Tensor:
    """Directions without a meaning: (``N_RANDOM``, D), the same for the same seed."""
    return torch.randn(N_RANDOM, n_dimensions, generator=torch.Generator().manual_seed(seed))


def logit_null(of_random: LogitDistribution) -> LogitNull:
    """The null from the distributions of random directions."""
    skewness, kurtosis = (
        float(np.nanquantile(values_R, NULL_QUANTILE))
        for values_R in (of_random.skewness_L, of_random.kurtosis_L)
    )
    return LogitNull(skewness, kurtosis)


def _moments(row_V: np.ndarray) -> tuple[float, float, float, float]:
    low, high = float(row_V.min()), float(row_V.max())
    if not low < high:
        return low, high, np.nan, np.nan
    centred_V = row_V - row_V.mean()
    centred_V /= centred_V.std()
    squared_V = centred_V * centred_V
    n = len(row_V)
    return low, high, float(squared_V @ centred_V) / n, float(squared_V @ squared_V) / n - 3


def _counts(row_V: np.ndarray, low: float, high: float) -> np.ndarray:
    """Effects in ``N_BINS`` bins of equal width; the highest belongs to the last."""
    if not low < high:
        return np.bincount([0], weights=[len(row_V)], minlength=N_BINS).astype(np.int64)
    bins_V = ((row_V - np.float32(low)) * np.float32(N_BINS / (high - low))).astype(np.int64)
    return np.bincount(np.minimum(bins_V, N_BINS - 1), minlength=N_BINS)
