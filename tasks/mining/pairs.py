"""How two features fire on the same tokens, for chosen pairs: counts, correlation, and what chance gives.

Shapes: L features, P pairs, N places of tokens.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.special import pdtr, pdtrc

from tasks.mining.nearest import Coactivation


class PairFirings(NamedTuple):
    """What each pair of features does on the sampled tokens."""

    n_both_P: np.ndarray
    """Tokens on which both fire."""
    jaccard_P: np.ndarray
    """These over the tokens on which one does; NaN if neither fires."""
    pearson_P: np.ndarray
    """Correlation of the activations over all tokens; NaN if one does not vary."""
    p_more_P: np.ndarray
    """Probability that independent features fire together at least as often."""
    p_fewer_P: np.ndarray
    """Probability that independent features fire together at most as often."""


def pair_firings(coactivation: Coactivation, first_P: np.ndarray, second_P: np.ndarray) -> PairFirings:
    """Counts and correlations of pairs.

    The probabilities are Poisson tails with the mean ``n_f n_g / N`` of independent features, times the
    number of other features that fire, at most 1: a neighbour is chosen among all of them.
    """
    n_tokens, counts_L = coactivation.n_tokens, coactivation.counts.astype(np.float64)
    n_both_P, products_P = _together(coactivation, first_P, second_P)
    n_first_P, n_second_P = counts_L[first_P], counts_L[second_P]
    either_P = n_first_P + n_second_P - n_both_P
    expected_P = n_first_P * n_second_P / max(1, n_tokens)
    n_others = max(1, int((counts_L > 0).sum()) - 1)
    return PairFirings(
        n_both_P,
        np.divide(n_both_P, either_P, out=np.full(len(first_P), np.nan), where=either_P > 0),
        _pearson(coactivation, first_P, second_P, products_P),
        np.minimum(1.0, n_others * np.where(n_both_P > 0, pdtrc(n_both_P - 1, expected_P), 1.0)),
        np.minimum(1.0, n_others * pdtr(n_both_P, expected_P)),
    )


def _pearson(
    coactivation: Coactivation, first_P: np.ndarray, second_P: np.ndarray, products_P: np.ndarray
) -> np.ndarray:
    """n Σab - Σa Σb over the root of the product of the same with a² and b² (methods B13.3), in float64."""
    n, matrix = coactivation.n_tokens, coactivation.matrix
    feature_E = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    values_E = matrix.data.astype(np.float64)
    sum_L = np.bincount(feature_E, values_E, matrix.shape[0])
    square_sum_L = np.bincount(feature_E, values_E**2, matrix.shape[0])
    spread_L = np.sqrt(np.maximum(n * square_sum_L - sum_L**2, 0))
    covariance_P = n * products_P - sum_L[first_P] * sum_L[second_P]
    scale_P = spread_L[first_P] * spread_L[second_P]
    pearson: np.ndarray = np.divide(
        covariance_P, scale_P, out=np.full(len(first_P), np.nan), where=scale_P > 0
    )
    return pearson


def _together(
    coactivation: Coactivation, first_P: np.ndarray, second_P: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Common tokens of each pair, and the sum of the products of activations over them.

    The activations of the more frequent feature are laid out over all places, those of its rarer partners
    look them up.
    """
    matrix = coactivation.matrix
    order_L = np.argsort(np.argsort(np.diff(matrix.indptr), kind="stable"))
    swapped_P = order_L[first_P] < order_L[second_P]
    laid_P, sought_P = np.where(swapped_P, second_P, first_P), np.where(swapped_P, first_P, second_P)
    keys, pair_P = np.unique(laid_P.astype(np.int64) * matrix.shape[0] + sought_P, return_inverse=True)
    laid_K, sought_K = np.divmod(keys, matrix.shape[0])
    begin_K, n_K = matrix.indptr[sought_K], np.diff(matrix.indptr)[sought_K]
    n_both_K, products_K = np.zeros(len(keys)), np.zeros(len(keys))
    laid_N = np.zeros(matrix.shape[1], dtype=np.float32)
    usable = np.flatnonzero((n_K > 0) & (np.diff(matrix.indptr)[laid_K] > 0))
    edges = np.flatnonzero(np.diff(laid_K[usable], prepend=-1, append=-1))
    for start, stop in pairwise(edges):
        group = usable[start:stop]
        own = slice(*matrix.indptr[laid_K[group[0]] : laid_K[group[0]] + 2])
        laid_N[matrix.indices[own]] = matrix.data[own]
        parts = [slice(begin, begin + n) for begin, n in zip(begin_K[group], n_K[group], strict=True)]
        found = laid_N[np.concatenate([matrix.indices[part] for part in parts])]
        starts = np.cumsum(n_K[group]) - n_K[group]
        n_both_K[group] = np.add.reduceat(found > 0, starts, dtype=np.int64)
        found *= np.concatenate([matrix.data[part] for part in parts])
        products_K[group] = np.add.reduceat(found, starts, dtype=np.float64)
        laid_N[matrix.indices[own]] = 0
    return n_both_K[pair_P], products_K[pair_P]
