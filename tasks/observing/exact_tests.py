"""Exact tests of firing and of strength, closed in form: no draws, and no limit to how small p becomes.

Shapes: X tests.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, ndtr, xlogy

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_NEGLIGIBLE = 1e-13
"""Terms of a tail that are smaller than this share of it change no digit that is shown."""
FEWEST_RANKED = 8
"""With fewer values the normal approximation of the rank sum is not conservative."""
_MOST_TIED = 0.25
"""Ties make the normal approximation worse: one group of equal values may hold 63 % of all."""


def fisher_p(both_X: Ints, firing_X: Ints, group_X: Ints, n_X: Ints) -> Floats:
    """Two-sided p of Fisher's exact test that firing and membership of a group are independent.

    Twice the tail of the hypergeometric distribution from the observed count outwards, at most 1 (Agresti
    2002, section 3.5.3).

    Args:
        both_X: Documents of the group in which the feature fires.
        firing_X: Documents in which it fires.
        group_X: Documents of the group.
        n_X: All documents.
    """
    tests, of_X = np.unique(np.stack([both_X, firing_X, group_X, n_X]), axis=1, return_inverse=True)
    p_U: Floats = np.minimum(2 * _outward_tail(*tests), 1.0)
    return p_U[of_X.ravel()]


def rank_sum_p(rank_sum_X: Floats, group_X: Ints, n_X: Ints, tie_share_X: Floats) -> Floats:
    """Two-sided p of the rank-sum test (Wilcoxon; Mann and Whitney 1947), normal with continuity correction.

    In the far tails the normal approximation is conservative without ties. 1 where fewer than
    ``FEWEST_RANKED`` values are ranked, a group is empty, or most values are equal.

    Args:
        rank_sum_X: Sum of the ranks of the group, average ranks for ties, from 1.
        group_X: Values of the group.
        n_X: All values.
        tie_share_X: Sum of t³ - t over groups of t equal values, over n³ - n.
    """
    group, n = group_X.astype(np.float64), n_X.astype(np.float64)
    usable = (n >= FEWEST_RANKED) & (group > 0) & (group < n) & (tie_share_X <= _MOST_TIED)
    variance = np.where(usable, group * (n - group) * (n + 1) * (1 - tie_share_X) / 12, 1.0)
    distance = np.abs(rank_sum_X - group * (n + 1) / 2)
    p_X: Floats = 2 * ndtr(-np.maximum(distance - 0.5, 0) / np.sqrt(variance))
    return np.where(usable, p_X, 1.0)


def mutual_information(both_X: Ints, firing_X: Ints, group_X: Ints, n_X: Ints) -> Floats:
    """Mutual information in nats of firing in a document and membership of a group (2 x 2 table)."""
    both, firing, group, n = (values.astype(np.float64) for values in (both_X, firing_X, group_X, n_X))
    total = np.zeros(both.shape)
    for cell, row, column in (
        (both, firing, group),
        (firing - both, firing, n - group),
        (group - both, n - firing, group),
        (n - firing - group + both, n - firing, n - group),
    ):
        expected = row * column / n
        total += xlogy(cell, np.divide(cell, expected, out=np.ones_like(cell), where=expected > 0)) / n
    return np.maximum(total, 0.0)


def mean_mutual_information(firing_X: Ints, group_X: Ints, n_X: Ints) -> Floats:
    """Mean of `mutual_information` over all groups of the same size: its expectation is exact.

    The count of both is hypergeometric (Vinh, Epps and Bailey 2010).
    """
    tests, of_X = np.unique(np.stack([firing_X, group_X, n_X]), axis=1, return_inverse=True)
    firing, group, n = tests
    mode = ((firing + 1) * (group + 1)) // (n + 2)
    at_mode = np.exp(_log_pmf(mode, firing, group, n))
    lowest, highest = np.maximum(0, firing + group - n), np.minimum(firing, group)
    mean = at_mode * mutual_information(mode, firing, group, n)
    for upwards in (True, False):
        j, term = mode.copy(), at_mode.copy()
        while (term > _NEGLIGIBLE * at_mode).any():
            term = term * _ratio(j, firing, group, n, upwards)
            j = np.clip(j + (1 if upwards else -1), lowest, highest)
            mean += term * mutual_information(j, firing, group, n)
    result: Floats = mean[of_X.ravel()]
    return result


def _outward_tail(both: Ints, firing: Ints, group: Ints, n: Ints) -> Floats:
    """Probability of the observed count and of all that lie further from the mean on its side."""
    upwards = both * n >= firing * group
    term = np.ones(both.shape)
    total, j = term.copy(), both.copy()
    while (term > _NEGLIGIBLE * total).any():
        term = term * _ratio(j, firing, group, n, upwards)
        j = j + np.where(upwards, 1, -1)
        total += term
    tail: Floats = np.exp(_log_pmf(both, firing, group, n)) * total
    return tail


def _ratio(j: Ints, firing: Ints, group: Ints, n: Ints, upwards: npt.ArrayLike) -> Floats:
    """Probability of the next count over that of ``j``; 0 at the end of the range."""
    rest = n - firing - group + j
    up = (
        np.maximum(firing - j, 0)
        * np.maximum(group - j, 0)
        / (np.maximum(j + 1.0, 1.0) * np.maximum(rest + 1.0, 1.0))
    )
    below = (firing - j + 1.0) * (group - j + 1.0)
    down = np.maximum(j, 0) * np.maximum(rest, 0) / np.where(below > 0, below, 1.0)
    ratio: Floats = np.where(upwards, up, down)
    return ratio


def _log_pmf(j: Ints, firing: Ints, group: Ints, n: Ints) -> Floats:
    value: Floats = _log_choose(firing, j) + _log_choose(n - firing, group - j) - _log_choose(n, group)
    return value


def _log_choose(n: Ints, k: Ints) -> Floats:
    value: Floats = gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
    return value
