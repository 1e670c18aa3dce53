"""Firing statistics of every feature in memory that does not grow with the tokens.

Activations are counted in bins of constant relative width: the exponent and the leading bits of the
mantissa of a float32 are its bin. Shapes: L features, E firings, H bins, Q quantiles.
"""

from dataclasses import dataclass

import numpy as np

from tasks.mining.codes import Firings

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)

_MANTISSA_BITS = 3
_BINS_PER_OCTAVE = 1 << _MANTISSA_BITS
_LOWEST_OCTAVE, _HIGHEST_OCTAVE = -14, 18
_N_BINS = (_HIGHEST_OCTAVE - _LOWEST_OCTAVE) * _BINS_PER_OCTAVE
_SHIFT = 23 - _MANTISSA_BITS
_FIRST_CODE = (127 + _LOWEST_OCTAVE) << _MANTISSA_BITS
_FEATURES_AT_ONCE = 16_384
_SHOWN_PER_OCTAVE = 4


def bin_of(values: np.ndarray) -> np.ndarray:
    """Bin of each positive float32; values beyond the outermost bins are counted in them."""
    codes: np.ndarray = values.astype(np.float32).view(np.int32) >> _SHIFT
    bins: np.ndarray = np.clip(codes - _FIRST_CODE, 0, _N_BINS - 1)
    return bins


def bin_edges() -> np.ndarray:
    """The ``H + 1`` edges, float64; each octave has eight bins of equal width."""
    octave, step = np.divmod(np.arange(_N_BINS + 1), _BINS_PER_OCTAVE)
    edges: np.ndarray = np.ldexp(1 + step / _BINS_PER_OCTAVE, octave + _LOWEST_OCTAVE)
    return edges


@dataclass(frozen=True)
class Histogram:
    """Non-empty range of one feature's activations: edges (n + 1) and counts (n)."""

    edges: np.ndarray
    counts: np.ndarray


class FiringStatistics:
    """Count, sum, largest value and histogram per feature; sums over special tokens and of steps."""

    def __init__(self, n_features: int) -> None:
        self.n_tokens_L = np.zeros(n_features, dtype=np.int64)
        self.n_chunks_L = np.zeros(n_features, dtype=np.int64)
        self.sum_L = np.zeros(n_features, dtype=np.float64)
        self.special_sum_L = np.zeros(n_features, dtype=np.float64)
        self.step_sum_L = np.zeros(n_features, dtype=np.float64)
        self.max_L = np.zeros(n_features, dtype=np.float32)
        self.histogram_LH = np.zeros((n_features, _N_BINS), dtype=np.int64)

    def add(self, firings: Firings, special_E: np.ndarray | None = None) -> None:
        """Count firings, sorted by feature; ``special_E`` says which are on special tokens."""
        if len(firings.features_E) == 0:
            return
        n_features = len(self.n_tokens_L)
        features, values = firings.features_E, firings.values_E
        self.n_tokens_L += np.bincount(features, minlength=n_features)
        self.sum_L += np.bincount(features, weights=values, minlength=n_features)
        if special_E is not None:
            on_special = np.where(special_E, values, 0)
            self.special_sum_L += np.bincount(features, weights=on_special, minlength=n_features)
        if firings.steps_E is not None:
            self.step_sum_L += np.bincount(features, weights=firings.steps_E, minlength=n_features)
        begins = np.flatnonzero(np.concatenate([[True], features[1:] != features[:-1]]))
        fired = features[begins]
        self.max_L[fired] = np.maximum(self.max_L[fired], np.maximum.reduceat(values, begins))
        for first in range(0, n_features, _FEATURES_AT_ONCE):
            block = self.histogram_LH[first : first + _FEATURES_AT_ONCE]
            begin, end = np.searchsorted(features, [first, first + len(block)])
            keys = (features[begin:end].astype(np.int64) - first) * _N_BINS + bin_of(values[begin:end])
            block += np.bincount(keys, minlength=block.size).reshape(block.shape)

    def add_chunks(self, features_R: np.ndarray) -> None:
        """Count the chunks in which features fire, one entry per feature and chunk."""
        self.n_chunks_L += np.bincount(features_R, minlength=len(self.n_chunks_L))

    def quantiles(self) -> np.ndarray:
        """(L, Q) float32, NaN for a feature that never fired; linear within a bin, at most the maximum.

        A bin is at most 12.5 % wide, and so is the error.
        """
        edges = bin_edges()
        cumulative_LH = np.cumsum(self.histogram_LH, axis=1)
        result = np.full((len(self.n_tokens_L), len(QUANTILES)), np.nan, dtype=np.float32)
        fired = np.flatnonzero(self.n_tokens_L)
        for column, q in enumerate(QUANTILES):
            target = q * self.n_tokens_L[fired]
            at = (cumulative_LH[fired] < target[:, None]).sum(axis=1)
            n_in_bin = self.histogram_LH[fired, at]
            n_below = cumulative_LH[fired, at] - n_in_bin
            inside = (target - n_below) / n_in_bin
            value = edges[at] + inside * (edges[at + 1] - edges[at])
            result[fired, column] = np.minimum(value, self.max_L[fired])
        return result

    def histogram(self, feature: int) -> Histogram:
        """Four bins per octave from the lowest to the highest that holds something; may be empty."""
        merged = _BINS_PER_OCTAVE // _SHOWN_PER_OCTAVE
        counts = self.histogram_LH[feature].reshape(-1, merged).sum(axis=1)
        filled = np.flatnonzero(counts)
        if len(filled) == 0:
            return Histogram(np.zeros(0), np.zeros(0, dtype=np.int64))
        first, last = filled[0], filled[-1] + 1
        edges = bin_edges()[::merged][first : last + 1].copy()
        if first == 0:
            edges[0] = 0.0
        if last == len(counts):
            edges[-1] = max(edges[-1], float(self.max_L[feature]))
        return Histogram(edges, counts[first:last])
