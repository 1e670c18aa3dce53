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
_POWERS = np.array(
    [pow(_BASE, WINDOW_BYTES - 1 - place, 2**64) for place in range(WINDOW_BYTES)], dtype=np.uint64
)

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
        own = signature(text)
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
    hashes_N = window_hashes(text)
    edges = np.arange(N_BINS, dtype=np.uint64) << np.uint64(64 - N_BINS.bit_length() + 1)
    first_B = np.searchsorted(hashes_N, edges)
    last_B = np.append(first_B[1:], len(hashes_N))
    filled = np.flatnonzero(first_B < last_B)
    lenders_B = np.append(filled, filled[0] + N_BINS)[np.searchsorted(filled, np.arange(N_BINS))]
    distance_B = (lenders_B - np.arange(N_BINS)).astype(np.uint64)
    minima_B: Signature = hashes_N[first_B[lenders_B % N_BINS]]
    return minima_B + distance_B * _BORROWED


def window_hashes(text: str) -> NDArray[np.uint64]:
    """Polynomial hashes of the different windows, mixed, ascending: (N,). A short text is one window."""
    content = _SPACE.sub(" ", text.lower()).strip().encode("utf-8", "replace")
    bytes_N = np.frombuffer(content.ljust(WINDOW_BYTES, b"\0"), np.uint8).astype(np.uint64)
    windows_NW = np.lib.stride_tricks.sliding_window_view(bytes_N, WINDOW_BYTES)
    hashes_N = np.zeros(len(windows_NW), np.uint64)
    for place in range(WINDOW_BYTES):
        hashes_N += windows_NW[:, place] * _POWERS[place]
    hashes_N ^= hashes_N >> np.uint64(29)
    hashes_N *= np.uint64(0xBF58476D1CE4E5B9)
    hashes_N ^= hashes_N >> np.uint64(32)
    return np.unique(hashes_N)
