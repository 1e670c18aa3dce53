"""Pearson correlation of sparse codes, its null by circular shifts, and coactivation counts.

r = (n Sab - Sa Sb) / sqrt((n Saa - Sa^2)(n Sbb - Sb^2)), float64 throughout; only segments where both
fire contribute to Sab (methods B13.3, vector G12). The null rotates the second side within every
document by a random non-zero step: each feature keeps its values, its density and its rhythm, and only the
agreement in time is destroyed. A feature of the first side is compared with the best partner that it finds
under a shift, so that the search over partners is part of the null.

Shapes: S segments; A, B features of the two sides.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from tasks.activations.text.alignment import Ints
from tasks.common.progress import Progress, ProgressListener, silent

Floats = npt.NDArray[np.float64]
_BLOCK = 2_048


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums of one side over all segments."""

    n: int
    total: Floats
    """Sum of each feature."""
    scale: Floats
    """sqrt(n sum of squares - total^2); 1 where a feature does not vary."""


def moments(codes_SA: csr_array) -> Moments:
    """The marginal sums of ``codes_SA``."""
    n = codes_SA.shape[0]
    total = np.asarray(codes_SA.sum(axis=0), dtype=np.float64).ravel()
    squares = np.asarray(codes_SA.multiply(codes_SA).sum(axis=0), dtype=np.float64).ravel()
    spread = np.maximum(n * squares - total**2, 0.0)
    varies = spread > 1e-12 * np.maximum(n * squares, 1e-300)
    return Moments(n, total, np.where(varies, np.sqrt(spread), 1.0))


class Correlator:
    """Correlations of all features of ``a`` with all of ``b``, in blocks of the rows of ``a``."""

    def __init__(self, a_SA: csr_array, b_SB: csr_array) -> None:
        if a_SA.shape[0] != b_SB.shape[0]:
            raise ValueError(f"{a_SA.shape[0]} and {b_SB.shape[0]} segments cannot be paired")
        self.a_AS = a_SA.T.tocsr()
        self.b_SB = b_SB
        self.of_a, self.of_b = moments(a_SA), moments(b_SB)

    def blocks(self, order_S: Ints | None = None) -> Iterator[tuple[slice, Floats]]:
        """Yield ``(rows, r (rows, B))``; ``order_S`` rearranges the segments of the second side."""
        b_SB = self.b_SB if order_S is None else self.b_SB[order_S]
        for start in range(0, self.a_AS.shape[0], _BLOCK):
            rows = slice(start, min(start + _BLOCK, self.a_AS.shape[0]))
            r_AB = (self.a_AS[rows] @ b_SB).toarray()
            r_AB *= self.of_a.n
            r_AB -= np.outer(self.of_a.total[rows], self.of_b.total)
            r_AB /= self.of_a.scale[rows, None]
            r_AB /= self.of_b.scale[None, :]
            yield rows, r_AB

    def best(self, order_S: Ints | None = None) -> Floats:
        """Largest correlation of each feature of ``a``: (A,)."""
        best_A = np.full(self.a_AS.shape[0], -np.inf)
        if self.b_SB.shape[1]:
            for rows, r_AB in self.blocks(order_S):
                best_A[rows] = r_AB.max(axis=1)
        return best_A


def circular_shift(document_S: Ints, rng: np.random.Generator) -> Ints:
    """An order of the segments that rotates each document by a random non-zero step."""
    starts = np.flatnonzero(np.append(True, document_S[1:] != document_S[:-1]))
    lengths = np.diff(np.append(starts, len(document_S)))
    step = np.where(lengths > 1, rng.integers(1, np.maximum(lengths, 2)), 0)
    place = np.arange(len(document_S)) - np.repeat(starts, lengths)
    order: Ints = np.repeat(starts, lengths) + (place + np.repeat(step, lengths)) % np.repeat(
        lengths, lengths
    )
    return order


def shift_p_values(
    correlator: Correlator,
    document_S: Ints,
    n_shifts: int,
    seed: int,
    listener: ProgressListener = silent,
    n_threads: int = 2,
) -> Floats:
    """(1 + shifts whose best partner scores this high) / (1 + shifts), for each feature of ``a``: (A,).

    The smallest possible value, and so the resolution, is 1 / (1 + n_shifts).
    """
    observed_A = correlator.best()
    as_high_A = np.zeros(len(observed_A), dtype=np.int64)

    def shifted(number: int) -> Floats:
        rng = np.random.default_rng([seed, number])
        return correlator.best(circular_shift(document_S, rng))

    with ThreadPoolExecutor(n_threads) as pool:
        for n_done, null_A in enumerate(pool.map(shifted, range(n_shifts)), start=1):
            as_high_A += null_A >= observed_A
            listener(Progress("shifts of the null", n_done, n_shifts))
    p_A: Floats = (1.0 + as_high_A.astype(np.float64)) / (1.0 + n_shifts)
    return p_A
