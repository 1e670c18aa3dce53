"""Near-duplicate documents, found by MinHash over windows of characters.

A document's windows are the runs of 32 bytes of its text in lower case with white space collapsed. Two
documents are near-duplicates when the estimated Jaccard similarity of their sets of windows reaches a
threshold. The estimate is the share of equal minima in 128 bins of one hash function (Broder 1997; for one
function and empty bins Shrivastava and Li 2014, arXiv 1406.4784); its standard error is 0.035 at a similarity
of 0.8. Candidates come from 16 bands of 8 minima: this finds a pair at 0.8 with a probability of 95 %, one at
0.9 with more than 99.9 %. Repeated text leads to features that copy, and inflates every score that rewards
copying.

The result depends only on the texts and their order: the earlier document is kept. A kept document costs
about 2 kB of memory.
"""

import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

WINDOW_BYTES = 32
"""About five words: long enough to be rare, short enough to survive small edits."""
N_BINS = 128
"""The standard error of an estimated similarity is below 0.045."""
N_BANDS = 16
"""Bands of eight bins: pairs of 0.8 similarity meet in one with 95 %, of 0.5 with 6 %."""
_SPACE = re.compile(r"\s+")
_BORROWED = np.uint64(0x9E3779B97F4A7C15)
"""Added for every bin across which a minimum was borrowed."""

_BASE = 0x5851F42D4C957F2D
"""Odd, so that it has an inverse modulo 2 ** 64."""
_MOST_KEPT = 1 << 20
"""Powers for longer texts are computed each time."""
_BIN_SHIFT = np.uint64(64 - N_BINS.bit_length() + 1)

Signature = NDArray[np.uint64]


class NearDuplicates:
    """The documents kept so far.

    Args:
        similarity: At this estimated Jaccard similarity a document counts as a copy.
    """

    def __init__(self, similarity: float) -> None:
        self.similarity = similarity
        self._signatures: list[Signature] = []
        self._bands: dict[tuple[int, bytes], list[int]] = {}

    def is_new(self, text: str) -> bool:
        """Whether no kept document resembles this one; if so, it is kept."""
        return self.is_new_signature(signature(text))

    def is_new_signature(self, own: Signature) -> bool:
        """The same for the signature of a document."""
        keys = [(band, part.tobytes()) for band, part in enumerate(np.split(own, N_BANDS))]
        candidates = {number for key in keys for number in self._bands.get(key, ())}
        if any(np.mean(self._signatures[number] == own) >= self.similarity for number in candidates):
            return False
        for key in keys:
            self._bands.setdefault(key, []).append(len(self._signatures))
        self._signatures.append(own)
        return True


def signature(text: str) -> Signature:
    """The smallest window hash of every bin: (128,). An empty bin borrows from the next that is not."""
    hashes_N = _hashes(text)
    bins_N = (hashes_N >> _BIN_SHIFT).astype(np.int64)
    smallest_B: Signature = np.full(N_BINS, np.iinfo(np.uint64).max)
    np.minimum.at(smallest_B, bins_N, hashes_N)
    filled = np.flatnonzero(np.bincount(bins_N, minlength=N_BINS))
    lenders_B = np.append(filled, filled[0] + N_BINS)[np.searchsorted(filled, np.arange(N_BINS))]
    distance_B = (lenders_B - np.arange(N_BINS)).astype(np.uint64)
    minima_B: Signature = smallest_B[lenders_B % N_BINS]
    return minima_B + distance_B * _BORROWED


def window_hashes(text: str) -> NDArray[np.uint64]:
    """Polynomial hashes of the different windows, mixed, ascending: (N,). A short text is one window."""
    return np.unique(_hashes(text))


def _hashes(text: str) -> NDArray[np.uint64]:
    """Hashes of all windows in the order of the text: (N,).

    The hash of the window at i is the sum of ``byte[j] * base ** (i + 31 - j)``. Its terms share the factor
    ``base ** (i + 31)``, so it is a difference of two cumulative sums times that, modulo 2 ** 64.
    """
    content = _SPACE.sub(" ", text.lower()).strip().encode("utf-8", "replace")
    bytes_N = np.frombuffer(content.ljust(WINDOW_BYTES, b"\0"), np.uint8).astype(np.uint64)
    powers = _powers if len(bytes_N) <= _MOST_KEPT else _powers.__wrapped__
    rising_N, falling_N = powers(1 << (len(bytes_N) - 1).bit_length())
    sums_N = np.zeros(len(bytes_N) + 1, np.uint64)
    np.cumsum(bytes_N * falling_N[: len(bytes_N)], out=sums_N[1:])
    hashes_N: NDArray[np.uint64] = sums_N[WINDOW_BYTES:] - sums_N[:-WINDOW_BYTES]
    hashes_N *= rising_N[WINDOW_BYTES - 1 : len(bytes_N)]
    hashes_N ^= hashes_N >> np.uint64(29)
    hashes_N *= np.uint64(0xBF58476D1CE4E5B9)
    hashes_N ^= hashes_N >> np.uint64(32)
    return hashes_N


@lru_cache(maxsize=16)
def _powers(n: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """``base ** i`` and ``base ** -i`` modulo 2 ** 64 for i below n."""
    bases = (_BASE, pow(_BASE, -1, 2**64))
    rising, falling = (
        np.cumprod(np.array([1] + [base] * (n - 1), np.uint64), dtype=np.uint64) for base in bases
    )
    return rising, falling
