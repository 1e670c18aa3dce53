"""Whether documents differ between two readings of them: the sign-flip test.

Without a difference each document's difference is as likely positive as negative (Fisher 1935, section 21).
Shapes: G documents, F features, R flips.
"""

import numpy as np
from scipy.sparse import csc_array

from tasks.common.progress import Progress, ProgressListener, silent
from tasks.observing.documents import Floats

_FEATURES_AT_ONCE = 1_024
_ROUNDING = 1e-9


def sign_flip_p(
    differences_GF: csc_array, n_flips: int, seed: int, listener: ProgressListener = silent
) -> Floats:
    """Two-sided p of each feature's sum of differences: (F,).

    (1 + flips whose sum is as large) / (1 + flips). Where no flip reaches the sum t, Hoeffding's bound
    2 exp(-t² / (2 Σ d²)) on the exact p (Hoeffding 1963, theorem 2) is taken if it is smaller, so that
    n_flips does not limit how small p becomes.
    """
    n_documents, n_features = differences_GF.shape
    signs_RG = np.random.default_rng(seed).choice(np.array([-1.0, 1.0]), (n_flips, n_documents))
    p_F = np.ones(n_features)
    for first in range(0, n_features, _FEATURES_AT_ONCE):
        part = slice(first, first + _FEATURES_AT_ONCE)
        values_GF = differences_GF[:, part]
        total_F = np.abs(np.asarray(values_GF.sum(axis=0)).ravel())
        squares_F = np.asarray(values_GF.multiply(values_GF).sum(axis=0)).ravel()
        flipped_RF = np.abs((values_GF.T @ signs_RG.T).T)
        n_reached_F = (flipped_RF >= total_F * (1 - _ROUNDING)).sum(axis=0)
        exponent_F = np.divide(total_F**2, 2 * squares_F, out=np.zeros_like(total_F), where=squares_F > 0)
        drawn_F = (1.0 + n_reached_F) / (1.0 + n_flips)
        bound_F = np.where(n_reached_F == 0, 2 * np.exp(-exponent_F), 1.0)
        p_F[part] = np.minimum(drawn_F, bound_F)
        listener(Progress("features compared", min(first + _FEATURES_AT_ONCE, n_features), n_features))
    return p_F
