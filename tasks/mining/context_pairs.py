"""Whether two features fire in the same documents beyond the contexts in which they fire together.

Two features can fire together because one text needs both, or because the corpus has documents about both.
Two contexts (chunks) are drawn from each of a sample of documents, without regard to features. For features
f and g, D documents, and the sets F1, F2, G1, G2 of documents in whose first or second context they fire:

- together in one context: ``(|F1 & G1| + |F2 & G2|) D / (|F1| |G1| + |F2| |G2|)``;
- in the same document, apart: ``(|f & g'| + |f' & g|) D / (|f| |g'| + |f'| |g|)``, where f are the documents
  with f only in the first context (``F1 - F2``) and f' those with f only in the second. One context has f
  without g, the other g without f, so firing on the same tokens or in the same contexts adds nothing.

Both are 1 if the documents of f and of g are independent, however each feature is spread over them: the
denominators are the means over all orders of the documents of g. Every document gives exactly two
contexts, so its length does not matter, and the second measure counts a document at most once. Its p-value is
the upper Poisson tail, a little above the exact one.

Shapes: L features, D documents, W words of 64 documents, P pairs, R (feature, chunk).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import pdtrc

from tasks.mining.codes import CodeShard
from tasks.mining.hashing import uniform
from tasks.mining.windows import chunk_starts

if TYPE_CHECKING:
    from tasks.activations.text.packing import PackedTokens

N_DOCUMENTS = 2_048
"""Two features that fire in 5 % of the documents each share about five of them if they are independent."""
_SPARE = 16
"""Documents looked at for each that is wanted: many have only one context."""
_PAIRS_AT_ONCE = 65_536
_DOCUMENT, _CONTEXT = 11, 12


class Cooccurrence(NamedTuple):
    """What each pair does in the contexts drawn; NaN where chance would give nothing."""

    context_lift_P: np.ndarray
    document_lift_P: np.ndarray
    p_P: np.ndarray
    """Of the document lift, one-sided; NaN with it."""


class ContextPairs:
    """Which features fire in the two contexts drawn from each document, as bits."""

    def __init__(self, chunks_D2: np.ndarray, n_features: int) -> None:
        self.n_documents = len(chunks_D2)
        order = np.argsort(chunks_D2, axis=None)
        self._chunks, self._order = chunks_D2.ravel()[order], order
        self._bits_2LW = np.zeros((2, n_features, -(-max(1, self.n_documents) // 64)), dtype=np.uint64)

    def add(self, features_R: np.ndarray, chunks_R: np.ndarray, first: int, end: int) -> None:
        """Note which features fire in which chunk; all chunks lie from position ``first`` to ``end``."""
        begin, stop = np.searchsorted(self._chunks, [first, end])
        if begin == stop:
            return
        number_of_position = np.full(end - first, -1, dtype=np.int32)
        number_of_position[self._chunks[begin:stop] - first] = self._order[begin:stop]
        number_R = number_of_position[chunks_R - first]
        drawn = number_R >= 0
        document, which = np.divmod(number_R[drawn], 2)
        bit = np.left_shift(np.uint64(1), (document & 63).astype(np.uint64))
        np.bitwise_or.at(self._bits_2LW, (which, features_R[drawn], document >> 6), bit)

    def numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """The contexts (D, 2) and the bits, for ``take`` of a later pass."""
        chunks_C = np.empty_like(self._chunks)
        chunks_C[self._order] = self._chunks
        return chunks_C.reshape(-1, 2), self._bits_2LW

    def take(self, chunks_D2: np.ndarray, bits_2LW: np.ndarray) -> None:
        """Begin with the numbers of a pass over the first documents, as far as they were drawn here too."""
        known = {begin: document for document, begin in enumerate(chunks_D2[:, 0].tolist())}
        mine_D2, _ = self.numbers()
        here = [document for document, begin in enumerate(mine_D2[:, 0].tolist()) if begin in known]
        there = np.array([known[begin] for begin in mine_D2[here, 0].tolist()], dtype=np.int64)
        for document, other in zip(here, there.tolist(), strict=True):
            bit = (bits_2LW[:, :, other >> 6] >> np.uint64(other & 63)) & np.uint64(1)
            self._bits_2LW[:, :, document >> 6] |= bit << np.uint64(document & 63)

    def cooccurrence(self, first_P: np.ndarray, second_P: np.ndarray) -> Cooccurrence:
        """Both lifts of pairs of features."""
        parts = [
            self._of(first_P[at : at + _PAIRS_AT_ONCE], second_P[at : at + _PAIRS_AT_ONCE])
            for at in range(0, len(first_P), _PAIRS_AT_ONCE)
        ]
        nothing = np.zeros(0)
        return Cooccurrence(*(np.concatenate(part) for part in zip((nothing,) * 3, *parts, strict=True)))

    def _of(self, first_P: np.ndarray, second_P: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        f1, f2 = self._bits_2LW[:, first_P]
        g1, g2 = self._bits_2LW[:, second_P]
        together_P, by_chance_P = _n(f1 & g1) + _n(f2 & g2), _n(f1) * _n(g1) + _n(f2) * _n(g2)
        context_P = _lift(together_P, by_chance_P / max(1, self.n_documents))
        f1, f2, g1, g2 = f1 & ~f2, f2 & ~f1, g1 & ~g2, g2 & ~g1
        apart_P = _n(f1 & g2) + _n(g1 & f2)
        expected_P = (_n(f1) * _n(g2) + _n(g1) * _n(f2)) / max(1, self.n_documents)
        p_P = np.where(apart_P > 0, pdtrc(apart_P - 1, expected_P), 1.0)
        return context_P, _lift(apart_P, expected_P), np.where(expected_P > 0, p_P, np.nan)


def draw_contexts(
    shards: Sequence[CodeShard], tokens: "PackedTokens", n_documents: int, chunk_tokens: int, seed: int
) -> np.ndarray:
    """Positions at which the two contexts of each document of a sample begin: (D, 2) int64.

    Only chunks with a valid token count, and only documents with two of them. Draws are by hash.

    Args:
        shards: Shards of the codes, for the ranges of sequences to read at once.
        tokens: Tokens of the activation set.
        n_documents: Documents of the corpus.
        chunk_tokens: Most tokens of a chunk.
        seed: Seed of the draws.
    """
    share = _SPARE * N_DOCUMENTS / max(1, n_documents)
    parts = [_chunks_of(shard, tokens, chunk_tokens, seed, share) for shard in shards]
    document_C, position_C = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.lexsort((uniform(seed, position_C, np.full_like(position_C, _CONTEXT)), document_C))
    document_C, position_C = document_C[order], position_C[order]
    begins = np.flatnonzero(np.diff(document_C, prepend=-1))
    begins = begins[np.diff(begins, append=len(document_C)) > 1]
    wanted = np.argsort(_draw(seed, document_C[begins]), kind="stable")[:N_DOCUMENTS]
    begins = np.sort(begins[wanted])
    return np.stack([position_C[begins], position_C[begins + 1]], axis=1)


def _chunks_of(
    shard: CodeShard, tokens: "PackedTokens", chunk_tokens: int, seed: int, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Document and position of the chunks of one shard, for a share of the documents."""
    rows = slice(shard.first_sequence, shard.first_sequence + shard.n_sequences)
    start = np.flatnonzero(chunk_starts(np.asarray(tokens.segment[rows]), chunk_tokens))
    used = np.add.reduceat(np.asarray(tokens.valid[rows]).ravel().astype(np.int64), start) > 0
    start = start[used]
    document = np.asarray(tokens.document_index[rows]).ravel()[start].astype(np.int64)
    kept = _draw(seed, document) < share
    return document[kept], start[kept] + shard.first_position


def _draw(seed: int, document: np.ndarray) -> np.ndarray:
    return uniform(seed, document, np.full_like(document, _DOCUMENT))


def _n(bits_PW: np.ndarray) -> np.ndarray:
    """Documents in each set: (P,) float64."""
    n: np.ndarray = np.bitwise_count(bits_PW).sum(axis=1, dtype=np.float64)
    return n


def _lift(n_P: np.ndarray, expected_P: np.ndarray) -> np.ndarray:
    lift: np.ndarray = np.divide(n_P, expected_P, out=np.full(len(n_P), np.nan), where=expected_P > 0)
    return lift
