"""AUROC of margins: the share of pairs of a firing and a silent item that are in the right order.

Legend: I items, P firing, N silent.
"""

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from tasks.autointerp.metrics import Z_95, Interval, Values

_HALVINGS = 60
Truth = npt.NDArray[np.bool_]


def auroc(margin_I: Values, truth_I: Truth) -> float:
    """Share of pairs in the right order, ties counted as half; NaN without items of both classes."""
    n_firing = int(truth_I.sum())
    n_silent = len(truth_I) - n_firing
    if not n_firing or not n_silent:
        return float("nan")
    above = float(rankdata(margin_I)[truth_I].sum()) - n_firing * (n_firing + 1) / 2
    return above / (n_firing * n_silent)


def auroc_variance(margin_I: Values, truth_I: Truth) -> float:
    """Sampling variance of the AUROC (DeLong, Biometrics 1988); with one item of a class Hanley and McNeil's.

    Each item has a placement: the share of items of the other class on its right side. The variance is that
    of the mean placement of the firing items plus that of the silent ones.
    """
    firing_P, silent_N = margin_I[truth_I], margin_I[~truth_I]
    if min(len(firing_P), len(silent_N)) < 2:
        return hanley_mcneil(auroc(margin_I, truth_I), len(firing_P), len(silent_N))
    right_PN = (firing_P[:, None] > silent_N) + 0.5 * (firing_P[:, None] == silent_N)
    of_firing, of_silent = right_PN.mean(axis=1).var(ddof=1), right_PN.mean(axis=0).var(ddof=1)
    return float(of_firing / len(firing_P) + of_silent / len(silent_N))


def hanley_mcneil(area: float, n_firing: int, n_silent: int) -> float:
    """Variance of an AUROC of ``area`` by class sizes alone (Hanley and McNeil, Radiology 1982).

    Both classes count with the mean of their sizes, as in Newcombe's method 5; NaN without both classes.
    """
    if not n_firing or not n_silent:
        return float("nan")
    others = (n_firing + n_silent) / 2 - 1
    spread = 1 + others * (1 - area) / (2 - area) + others * area / (1 + area)
    return area * (1 - area) * spread / (n_firing * n_silent)


def auroc_interval(area: float, n_firing: int, n_silent: int) -> Interval:
    """The 95 % interval by Newcombe's method 5 (Statistics in Medicine 2006).

    Its ends are the areas θ with ``|area - θ| = z sqrt(V(θ))``, V by Hanley and McNeil: as in Wilson's
    interval, an area of 0 or 1 has one of a positive length.
    """

    def end(outside: float) -> float:
        inside = area
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            if (area - middle) ** 2 > Z_95**2 * hanley_mcneil(middle, n_firing, n_silent):
                outside = middle
            else:
                inside = middle
        return inside

    return Interval(end(0.0), end(1.0))
