"""Alignment of two tokenizers on one text: the segments between token boundaries that both share.

A segment ends where a token of either tokenizer ends at the same character of the same document, and
starts after the previous common end (methods: token alignment, vector G26). Tokens are identified only by
document and characters, so neither the order of packing nor the vocabulary matters.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.activations.text.packing import PackedTokens

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_CHARS = np.int64(1) << 32


@dataclass(frozen=True, slots=True)
class TextTokens:
    """Tokens that have characters, flat: the position of each in the text and in its sequence."""

    row: Ints
    """Packed sequence."""
    position: Ints
    """Position within the sequence."""
    end: Ints
    """Document and last character in one number, ascending with the text."""
    valid: Bools


@dataclass(frozen=True, slots=True)
class Segments:
    """Common segments, in the order of the text."""

    document: Ints
    """Document of each segment."""
    of_a: Ints
    """For each token of the first side its segment, -1 for none."""
    of_b: Ints

    @property
    def n(self) -> int:
        return len(self.document)


def text_tokens(tokens: PackedTokens, rows: npt.NDArray[Any]) -> TextTokens:
    """The tokens of some sequences that cover at least one character."""
    document = np.asarray(tokens.document_index[rows], dtype=np.int64)
    start = np.asarray(tokens.char_start[rows], dtype=np.int64)
    end = np.asarray(tokens.char_end[rows], dtype=np.int64)
    n_row, position = np.nonzero((document >= 0) & (end > start))
    return TextTokens(
        row=np.asarray(rows, dtype=np.int64)[n_row],
        position=position,
        end=document[n_row, position] * _CHARS + end[n_row, position],
        valid=np.asarray(tokens.valid[rows])[n_row, position],
    )


def common_segments(a: TextTokens, b: TextTokens) -> Segments:
    """Segments that both sides cover; a segment with a dropped token on either side is left out."""
    ends = np.intersect1d(a.end, b.end)
    of_a, of_b = _segment_of(a, ends), _segment_of(b, ends)
    kept = np.ones(len(ends), dtype=bool)
    for side, segment in ((a, of_a), (b, of_b)):
        kept[segment[(segment >= 0) & ~side.valid]] = False
    # The appended -1 is what a token without a segment (-1, the last place) finds.
    renumbered = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)
    return Segments((ends // _CHARS)[kept], renumbered[of_a], renumbered[of_b])


def _segment_of(side: TextTokens, ends: Ints) -> Ints:
    """The first common end at or after each token's own, within its document."""
    if not len(ends):
        return np.full(len(side.end), -1, dtype=np.int64)
    place = np.searchsorted(ends, side.end, side="left")
    inside = place < len(ends)
    place = np.where(inside, place, 0)
    same_document = ends[place] // _CHARS == side.end // _CHARS
    return np.where(inside & same_document, place, -1).astype(np.int64)
