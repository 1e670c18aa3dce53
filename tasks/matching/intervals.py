"""Intervals of correlations by resampling documents.

Shapes: S segments, P pairs, G documents, R replicates.
"""

import numpy as np
from scipy.sparse import csc_array, csr_array

from tasks.activations.text.alignment import Ints
from tasks.common.bootstrap import FEWEST_DOCUMENTS, document_draws, ends
from tasks.matching.pairs import Floats

_PAIRS_AT_ONCE = 512
_SMALL = 1e-12


def correlation_intervals(
    a_SA: csc_array, b_SB: csc_array, pairs: tuple[Ints, Ints], document_S: Ints, seed: int
) -> tuple[Floats, Floats, int]:
    """Ends of the 95 % interval of each pair's correlation, (P,) each, and the number of documents.

    NaN if there are too few documents, or if a feature fires in so few of them that many draws contain none
    of its firings.
    """
    documents, of_S = np.unique(document_S, return_inverse=True)
    n_documents, n_pairs = len(documents), len(pairs[0])
    if n_documents < FEWEST_DOCUMENTS:
        return np.full(n_pairs, np.nan), np.full(n_pairs, np.nan), n_documents
    sums_GS = csr_array(
        (np.ones(len(of_S)), (of_S, np.arange(len(of_S)))), shape=(n_documents, len(of_S)), dtype=np.float64
    )
    draws_RG = document_draws(n_documents, seed)
    n_R = draws_RG @ np.asarray(sums_GS.sum(axis=1)).ravel()
    low_P, high_P = np.empty(n_pairs), np.empty(n_pairs)
    for start in range(0, n_pairs, _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        a_SP, b_SP = a_SA[:, pairs[0][part]], b_SB[:, pairs[1][part]]
        sum_a, sum_b, sum_aa, sum_bb, sum_ab = (
            draws_RG @ (sums_GS @ each_SP).toarray()
            for each_SP in (a_SP, b_SP, a_SP * a_SP, b_SP * b_SP, a_SP * b_SP)
        )
        spread_a, spread_b = (
            n_R[:, None] * squares - total**2 for squares, total in ((sum_aa, sum_a), (sum_bb, sum_b))
        )
        varies = (spread_a > _SMALL) & (spread_b > _SMALL)
        scale = np.sqrt(np.where(varies, spread_a * spread_b, 1.0))
        r_RP = np.where(varies, (n_R[:, None] * sum_ab - sum_a * sum_b) / scale, np.nan)
        low_P[part], high_P[part] = ends(r_RP, n_documents)
    return low_P, high_P, n_documents
