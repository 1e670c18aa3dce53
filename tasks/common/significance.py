"""False-discovery control."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def benjamini_hochberg(p_values: Floats) -> Floats:
    """q-values: the smallest false-discovery rate at which each hypothesis is rejected.

    Benjamini and Hochberg (1995): q_(i) = min over j >= i of p_(j) m / j, for p sorted ascending.
    """
    m = len(p_values)
    order = np.argsort(p_values, kind="stable")
    stepped = p_values[order] * m / np.arange(1, m + 1)
    q_values = np.empty(m)
    q_values[order] = np.minimum(np.minimum.accumulate(stepped[::-1])[::-1], 1.0)
    return q_values
