"""Scores of the first-letter task as ratios of sums over words, and their intervals over words.

A latent absorbs words and not documents, and the tokens of one word are similar: words are resampled, with
fixed probes and selected latents. Letters keep their weight in a mean over letters.

Shapes: N tokens, W words, C letters, R replicates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.common.bootstrap import Floats, Interval, document_interval, ratio_interval
from tasks.evaluation.probe import Bools, f1_score

UNIT = "words"


@dataclass(frozen=True)
class Words:
    """The word of each token."""

    word_N: NDArray[Any]
    n_words: int

    @classmethod
    def of(cls, words: Sequence[str]) -> "Words":
        """Number the words of some tokens."""
        known, word_N = np.unique(np.asarray(words), return_inverse=True)
        return cls(word_N, len(known))

    def sums(self, values_N: Any) -> Floats:
        """Sums over the tokens of each word."""
        weights_N = np.asarray(values_N, np.float64)
        sums_W: Floats = np.bincount(self.word_N, weights_N, self.n_words).astype(np.float64)
        return sums_W


@dataclass(frozen=True)
class Score:
    """A value of one letter, the number of its tokens, and the sums over words whose ratio it is."""

    value: float
    n: int
    above_W: Floats | None = None
    """None if the value is not a ratio, and so has no interval."""
    below_W: Floats | None = None

    def interval(self) -> Interval | None:
        """Over the words that it counts."""
        if self.above_W is None or self.below_W is None:
            return None
        return ratio_interval(self.above_W, self.below_W)


def f1_of(words: Words, predicted_N: Bools, truth_N: Bools, n: int) -> Score:
    """F1 as twice the hits over all that is predicted or true."""
    hits_W = words.sums(predicted_N & truth_N)
    below_W = words.sums(predicted_N) + words.sums(truth_N)
    return Score(f1_score(predicted_N, truth_N), n, 2 * hits_W, below_W)


def mean_of(words: Words, values_N: Any, counted_N: Bools) -> Score:
    """Mean over the counted tokens; the values of the others do not matter."""
    value = float(np.asarray(values_N)[counted_N].mean())
    above_N = np.where(counted_N, values_N, 0.0)
    return Score(value, int(counted_N.sum()), words.sums(above_N), words.sums(counted_N))


def mean_score(scores: Sequence[Score]) -> tuple[float | None, int, Interval | None]:
    """Mean over letters, the sum of their tokens, and the interval over words of all of them."""
    if not scores:
        return None, 0, None
    value, n = float(np.mean([score.value for score in scores])), sum(score.n for score in scores)
    if any(score.above_W is None or score.below_W is None for score in scores):
        return value, n, None
    above_WC = np.stack([np.asarray(score.above_W) for score in scores], axis=1)
    below_WC = np.stack([np.asarray(score.below_W) for score in scores], axis=1)
    counted_W = (below_WC > 0).any(axis=1)
    above_WC, below_WC = above_WC[counted_W], below_WC[counted_W]

    def mean(draws_RW: Floats) -> Floats:
        below_RC = draws_RW @ below_WC
        known_RC = below_RC > 0
        ratio_RC = np.where(known_RC, (draws_RW @ above_WC) / np.where(known_RC, below_RC, 1.0), 0.0)
        n_R = known_RC.sum(axis=1)
        mean_R: Floats = np.where(n_R > 0, ratio_RC.sum(axis=1) / np.maximum(n_R, 1), np.nan)
        return mean_R

    return value, n, document_interval(mean, len(above_WC))
