"""One dictionary on two sets of the same text, read block by block of documents.

Tokens are aligned by their characters (``tasks.activations.text.alignment``), so the tokenizers may differ.
Memory: two arrays of features times width, the sums by document, and one block. Shapes: S segments of a
block, G documents, L features, D width.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, vstack

from catalog.errors import UserError
from tasks.activations.reading.shards import ActivationSet
from tasks.activations.text.alignment import Bools, Segments, TextTokens, common_segments, text_tokens
from tasks.activations.text.packing import PackedTokens
from tasks.common.progress import Progress, ProgressListener, silent
from tasks.dictionaries.base import Dictionary
from tasks.measures.segment_codes import segment_codes
from tasks.observing.config import ModelsComparison
from tasks.observing.documents import Floats, Ints, tokens_of_documents

_SEGMENTS_AT_ONCE = 8_192
_SEQUENCES_AT_ONCE = 4_096


@dataclass
class PairedSums:
    """Sums over aligned tokens of both sides; ``a`` and ``b`` are rows 0 and 1 of arrays with two rows."""

    n_features: int
    n_segments: int = 0
    totals: Floats = field(init=False)
    squares: Floats = field(init=False)
    firings: Ints = field(init=False)
    products_L: Floats = field(init=False)
    both_L: Ints = field(init=False)
    segments_G: list[Ints] = field(default_factory=list)
    by_document: tuple[list[csr_array], list[csr_array]] = field(default_factory=lambda: ([], []))

    def __post_init__(self) -> None:
        self.totals, self.squares = np.zeros((2, self.n_features)), np.zeros((2, self.n_features))
        self.firings = np.zeros((2, self.n_features), dtype=np.int64)
        self.products_L, self.both_L = np.zeros(self.n_features), np.zeros(self.n_features, dtype=np.int64)

    def add(self, a_SL: csr_array, b_SL: csr_array, document_S: Ints) -> None:
        """Add a block of complete documents."""
        fires = [(codes > 0).astype(np.int64) for codes in (a_SL, b_SL)]
        for side, codes in enumerate((a_SL, b_SL)):
            self.totals[side] += np.asarray(codes.sum(axis=0)).ravel()
            self.squares[side] += np.asarray(codes.multiply(codes).sum(axis=0)).ravel()
            self.firings[side] += np.asarray(fires[side].sum(axis=0)).ravel()
        self.products_L += np.asarray(a_SL.multiply(b_SL).sum(axis=0)).ravel()
        self.both_L += np.asarray(fires[0].multiply(fires[1]).sum(axis=0)).ravel()
        documents, of_S = np.unique(document_S, return_inverse=True)
        n = len(document_S)
        sums_GS = csr_array((np.ones(n), (of_S, np.arange(n))), shape=(len(documents), n))
        for side, codes in enumerate((a_SL, b_SL)):
            self.by_document[side].append(sums_GS @ codes)
        self.segments_G.append(np.bincount(of_S))
        self.n_segments += n

    def document_sums(self) -> tuple[csr_array, csr_array]:
        """Summed activation of every feature in every document, of both sides: (G, L) each."""
        a, b = (vstack(parts, format="csr") for parts in self.by_document)
        return a, b


class StreamShifts:
    """How the activation vector moves from a to b where a feature fires on side a (methods B12.2)."""

    def __init__(self, n_features: int, width: int) -> None:
        self.n_L = np.zeros(n_features, dtype=np.int64)
        self.n_moved_L = np.zeros(n_features, dtype=np.int64)
        self.shift_LD = np.zeros((n_features, width), dtype=np.float32)
        self.direction_LD = np.zeros((n_features, width), dtype=np.float32)

    def add(self, a_SL: csr_array, x_a_SD: npt.NDArray[np.float32], x_b_SD: npt.NDArray[np.float32]) -> None:
        """Add the vectors of some tokens."""
        fires_LS = (a_SL > 0).astype(np.float32).T.tocsr()
        shift_SD = x_b_SD - x_a_SD
        norm_S = np.linalg.norm(shift_SD, axis=1)
        moved_S = norm_S > 0
        self.n_L += np.diff(fires_LS.indptr)
        self.n_moved_L += (fires_LS @ moved_S.astype(np.float32)).astype(np.int64)
        self.shift_LD += fires_LS @ shift_SD
        self.direction_LD += fires_LS @ (shift_SD / np.where(moved_S, norm_S, 1)[:, None])

    def projections(self, directions_LD: npt.NDArray[np.float32]) -> Floats:
        """Mean shift along each feature's direction of unit length: (L,); NaN where it never fires."""
        norms = np.linalg.norm(directions_LD, axis=1)
        along = np.einsum("ld,ld->l", self.shift_LD.astype(np.float64), directions_LD.astype(np.float64))
        n = self.n_L * norms
        projected: Floats = np.divide(along, n, out=np.full(len(along), np.nan), where=n > 0)
        return projected

    def consistencies(self) -> Floats:
        """Mean cosine of two shifts: (L,); NaN where fewer than two tokens moved.

        The sum over all pairs is the squared norm of the sum of directions, minus the pairs of one token with
        itself.
        """
        n = self.n_moved_L.astype(np.float64)
        squared = (self.direction_LD.astype(np.float64) ** 2).sum(axis=1)
        pairs = n * (n - 1)
        mean: Floats = np.divide(squared - n, pairs, out=np.full(len(n), np.nan), where=pairs > 0)
        return np.clip(mean, -1.0, 1.0)


class PairedBlock(NamedTuple):
    """Aligned tokens of complete documents: codes and activation vectors of both sides."""

    a_SL: csr_array
    b_SL: csr_array
    x_a_SD: npt.NDArray[np.float32]
    x_b_SD: npt.NDArray[np.float32]
    document_S: Ints


def read_pairs(
    dictionary: Dictionary,
    sets: tuple[ActivationSet, ActivationSet],
    config: ModelsComparison,
    *,
    follows_stream: bool,
    listener: ProgressListener = silent,
) -> tuple[PairedSums, StreamShifts | None]:
    """Encode text that both sets share: complete documents, drawn up to a number of tokens of side a.

    Args:
        dictionary: Reads both sets.
        sets: Activation sets of side a and b on one corpus.
        config: How much to read.
        follows_stream: Whether the dictionary writes what it reads, so that shifts have a direction.
        listener: Hears the progress.

    Raises:
        UserError: when the sets share no text.
    """
    sums = PairedSums(dictionary.d_sae)
    shifts = StreamShifts(dictionary.d_sae, sets[0].d_in) if follows_stream else None
    for block in paired_blocks(dictionary, sets, config, listener):
        sums.add(block.a_SL, block.b_SL, block.document_S)
        if shifts is not None:
            shifts.add(block.a_SL, block.x_a_SD, block.x_b_SD)
    return sums, shifts


def paired_blocks(
    dictionary: Dictionary,
    sets: tuple[ActivationSet, ActivationSet],
    config: ModelsComparison,
    listener: ProgressListener = silent,
) -> Iterator[PairedBlock]:
    """The drawn documents block by block; arguments and errors as of `read_pairs`."""
    drawn_G = drawn_documents(sets[0].tokens, config.max_segments, config.seed)
    tokens_a, tokens_b = (_text_of(one.tokens, drawn_G) for one in sets)
    segments = common_segments(tokens_a, tokens_b)
    if not segments.n:
        raise UserError(
            "the two activation sets share no token of any document: cache the same corpus for both models"
        )
    for block in _blocks(segments):
        a_SL, x_a_SD = _read(dictionary, sets[0], tokens_a, segments.of_a, block)
        b_SL, x_b_SD = _read(dictionary, sets[1], tokens_b, segments.of_b, block)
        yield PairedBlock(a_SL, b_SL, x_a_SD, x_b_SD, segments.document[block])
        listener(Progress("tokens compared", block.stop, segments.n))


def drawn_documents(tokens: PackedTokens, max_tokens: int, seed: int) -> Bools:
    """Whether each document is read: at least one, others while their valid tokens fit: (G,)."""
    parts = range(0, tokens.n_sequences, _SEQUENCES_AT_ONCE)
    last = max((int(np.max(tokens.document_index[i : i + _SEQUENCES_AT_ONCE])) for i in parts), default=-1)
    tokens_G = tokens_of_documents(tokens, last + 1)
    order = np.random.default_rng(seed).permutation(last + 1)
    order = order[tokens_G[order] > 0]
    n = int(np.searchsorted(np.cumsum(tokens_G[order]), max_tokens, side="right"))
    drawn_G = np.zeros(last + 1, dtype=bool)
    drawn_G[order[: max(n, 1)]] = True
    return drawn_G


def _text_of(tokens: PackedTokens, drawn_G: Bools) -> TextTokens:
    """The tokens of these documents that cover characters."""

    def is_drawn(document: npt.NDArray[np.integer[Any]]) -> Bools:
        known = (document >= 0) & (document < len(drawn_G))
        result: Bools = known & drawn_G[np.where(known, document, 0)]
        return result

    rows = [
        first
        + np.flatnonzero(is_drawn(tokens.document_index[first : first + _SEQUENCES_AT_ONCE]).any(axis=1))
        for first in range(0, tokens.n_sequences, _SEQUENCES_AT_ONCE)
    ]
    all_of_rows = text_tokens(tokens, np.concatenate(rows))
    kept = is_drawn(all_of_rows.end >> 32)
    return TextTokens(
        all_of_rows.row[kept], all_of_rows.position[kept], all_of_rows.end[kept], all_of_rows.valid[kept]
    )


def _blocks(segments: Segments) -> Iterator[slice]:
    """Stretches of complete documents."""
    ends = np.flatnonzero(np.append(segments.document[1:] != segments.document[:-1], True)) + 1
    start = 0
    for last, end in enumerate(ends):
        is_last = last == len(ends) - 1
        if is_last or ends[last + 1] - start > _SEGMENTS_AT_ONCE:
            yield slice(start, int(end))
            start = int(end)


def _read(
    dictionary: Dictionary, activation_set: ActivationSet, tokens: TextTokens, segment_of: Ints, block: slice
) -> tuple[csr_array, npt.NDArray[np.float32]]:
    """Codes of the segments of a block, and the activation vector at the last token of each."""
    n = block.stop - block.start
    inside = (segment_of >= block.start) & (segment_of < block.stop)
    x_SD = np.zeros((n, activation_set.d_in), dtype=np.float32)

    def keep(segment_N: Ints, x_ND: npt.NDArray[np.float32]) -> None:
        x_SD[segment_N] = x_ND

    of_block = np.where(inside, segment_of - block.start, -1)
    codes = segment_codes(dictionary, activation_set, tokens, of_block, n, "", on_batch=keep)
    return codes.codes, x_SD
