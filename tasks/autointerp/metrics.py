"""Scores of yes-no judgements with intervals, for many judges of the same items at once.

Legend: S sets of answers (an explanation, then shuffled ones), I items; answers are 1, 0 or -1 (none).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Answers = npt.NDArray[np.int8]
Z_95 = 1.959963984540054
UNANSWERED = -1

METRIC_VERSION = 2
"""Version of the definitions of scores and their chance; rows without a version have the first."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts (S,) over answered items, and the number of answered items of all."""

    tp: Values
    fn: Values
    fp: Values
    tn: Values
    answered_share: Values


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


def confusion(answers_SI: Answers, truth_I: npt.NDArray[np.bool_]) -> Confusion:
    """Counts of answers against truth; items without an answer are left out and reported."""
    yes_SI, no_SI = answers_SI == 1, answers_SI == 0
    n_items = max(len(truth_I), 1)
    return Confusion(
        (yes_SI & truth_I).sum(axis=1).astype(float),
        (no_SI & truth_I).sum(axis=1).astype(float),
        (yes_SI & ~truth_I).sum(axis=1).astype(float),
        (no_SI & ~truth_I).sum(axis=1).astype(float),
        (answers_SI != UNANSWERED).sum(axis=1) / n_items,
    )


def _ratio(numerator: Values, denominator: Values) -> Values:
    """The quotient, NaN if the denominator is 0."""
    quotient: Values = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


def recall(c: Confusion) -> Values:
    """tp / (tp + fn)."""
    return _ratio(c.tp, c.tp + c.fn)


def specificity(c: Confusion) -> Values:
    """tn / (tn + fp)."""
    return _ratio(c.tn, c.tn + c.fp)


def balanced_accuracy(c: Confusion) -> Values:
    """(recall + specificity) / 2; NaN when one class has no answers. A constant judge has 0.5."""
    return (recall(c) + specificity(c)) / 2


def pessimistic_balanced_accuracy(c: Confusion) -> Values:
    """Balanced accuracy with every unanswered item counted as chance: b·a + (1 - a)/2."""
    filled = np.where(c.answered_share > 0, balanced_accuracy(c), 0.5)
    return np.asarray(filled * c.answered_share + 0.5 * (1 - c.answered_share), np.float64)


def mcc(c: Confusion) -> Values:
    """Matthews correlation; NaN when a margin is empty."""
    margins = (c.tp + c.fp) * (c.tp + c.fn) * (c.tn + c.fp) * (c.tn + c.fn)
    return _ratio(c.tp * c.tn - c.fp * c.fn, np.sqrt(margins))


METRICS: dict[str, Callable[[Confusion], Values]] = {
    "balanced_accuracy": balanced_accuracy,
    "pessimistic_balanced_accuracy": pessimistic_balanced_accuracy,
    "recall": recall,
    "specificity": specificity,
    "mcc": mcc,
}
"""Without precision and F1: the items fire far more often than text does, and both depend on that."""


FLOORS = {"balanced_accuracy": 0.5, "pessimistic_balanced_accuracy": 0.5, "auroc": 0.5}
"""The value that random answers reach, whatever the items."""


def balanced_accuracy_variance(c: Confusion) -> Values:
    """Sampling variance of balanced accuracy: (p (1 - p) / n₁ + q (1 - q) / n₀) / 4."""
    p, q = recall(c), specificity(c)
    return np.asarray((_ratio(p * (1 - p), c.tp + c.fn) + _ratio(q * (1 - q), c.tn + c.fp)) / 4, np.float64)


def wilson(successes: float, n: float) -> Interval:
    """Wilson's 95 % score interval of a share; (0, 1) for n = 0."""
    if n == 0:
        return Interval(0.0, 1.0)
    share, z2 = successes / n, Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return Interval(max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def interval(metric: str, c: Confusion, which: int = 0) -> Interval | None:
    """The 95 % interval of one metric of one set of answers, if there is a simple one.

    Recall and specificity: Wilson. Balanced accuracy: the Wilson intervals (l, u) of recall p and
    specificity q combined by squares (Newcombe's method for a sum of two independent shares):
    b - sqrt((p - l_p)² + (q - l_q)²) / 2 and b + sqrt((u_p - p)² + (u_q - q)²) / 2.
    """
    tp, fn, fp, tn = (float(counts[which]) for counts in (c.tp, c.fn, c.fp, c.tn))
    if metric == "recall" and tp + fn > 0:
        return wilson(tp, tp + fn)
    if metric == "specificity" and tn + fp > 0:
        return wilson(tn, tn + fp)
    if metric != "balanced_accuracy" or tp + fn == 0 or tn + fp == 0:
        return None
    p, q = tp / (tp + fn), tn / (tn + fp)
    hit, quiet = wilson(tp, tp + fn), wilson(tn, tn + fp)
    below = float(np.hypot(p - hit.low, q - quiet.low)) / 2
    above = float(np.hypot(hit.high - p, quiet.high - q)) / 2
    return Interval(max(0.0, (p + q) / 2 - below), min(1.0, (p + q) / 2 + above))
