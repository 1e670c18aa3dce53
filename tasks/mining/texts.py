"""The text of tokens, cut from the document by character offsets and never by decoding ids.

Within a context, token i has the characters from the end of the tokens before it to its own end, so
that the pieces joined are exactly the document's text: what a tokenizer skips (blanks, mostly) goes to
the token after it, and the further tokens of one character are empty. A token of no width, such as
BOS, is empty too. Shapes: W windows, C tokens per window.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from catalog.errors import UserError

_DOCUMENTS_AT_ONCE = 512


@dataclass(frozen=True)
class CutTokens:
    """UTF-8 of every context and the length in bytes of every token; 0 beyond a context's end."""

    char_start_W: np.ndarray
    char_end_W: np.ndarray
    utf8_W: list[bytes]
    n_bytes_WC: np.ndarray

    def to_arrow(self, length_W: np.ndarray) -> pa.ListArray:
        """``list<string>`` with ``length_W`` strings per row."""
        used = np.arange(self.n_bytes_WC.shape[1]) < length_W[:, None]
        string_offsets = np.concatenate([[0], np.cumsum(self.n_bytes_WC[used])]).astype(np.int32)
        strings = pa.StringArray.from_buffers(
            len(string_offsets) - 1, pa.py_buffer(string_offsets), pa.py_buffer(b"".join(self.utf8_W))
        )
        return pa.ListArray.from_arrays(list_offsets(length_W), strings)


def list_offsets(length_W: np.ndarray) -> pa.Array:
    """Offsets of a list column whose rows have these lengths."""
    return pa.array(np.concatenate([[0], np.cumsum(length_W)]), type=pa.int32())


def token_bounds(start_WC: np.ndarray, end_WC: np.ndarray) -> np.ndarray:
    """Character bounds (W, C + 1) of the pieces of each context, by the rule above.

    Positions beyond a context's end are given with ``start == end``.
    """
    wide_WC = end_WC > start_WC
    first_wide_W = start_WC[np.arange(len(start_WC)), wide_WC.argmax(axis=1)]
    first_W = np.where(wide_WC.any(axis=1), first_wide_W, start_WC.max(axis=1))
    ends = np.where(wide_WC, end_WC, 0)
    bounds = np.concatenate([first_W[:, None], ends], axis=1)
    result: np.ndarray = np.maximum.accumulate(bounds, axis=1)
    return result


def cut_tokens(
    texts: pa.ChunkedArray, document_W: np.ndarray, start_WC: np.ndarray, end_WC: np.ndarray
) -> CutTokens:
    """Cut each context's tokens out of ``texts[document_W[i]]``."""
    bounds = token_bounds(start_WC, end_WC)
    byte_bounds = np.zeros_like(bounds)
    pieces: list[bytes] = [b""] * len(document_W)
    documents, group_W = np.unique(document_W, return_inverse=True)
    order = np.argsort(group_W, kind="stable")
    edges = np.searchsorted(group_W[order], np.arange(len(documents) + 1))
    for number, utf8 in enumerate(_utf8(texts, documents)):
        rows = order[edges[number] : edges[number + 1]]
        byte_bounds[rows] = _to_bytes(utf8, bounds[rows])
        for row, begin, end in zip(
            rows.tolist(), byte_bounds[rows, 0].tolist(), byte_bounds[rows, -1].tolist(), strict=True
        ):
            pieces[row] = utf8[begin:end]
    return CutTokens(bounds[:, 0], bounds[:, -1], pieces, np.diff(byte_bounds, axis=1))


def _utf8(texts: pa.ChunkedArray, documents: np.ndarray) -> Iterator[bytes]:
    for begin in range(0, len(documents), _DOCUMENTS_AT_ONCE):
        taken = texts.take(pa.array(documents[begin : begin + _DOCUMENTS_AT_ONCE]))
        yield from (text.encode() for text in taken.to_pylist())


def _to_bytes(utf8: bytes, chars: np.ndarray) -> np.ndarray:
    """Byte offsets of character offsets.

    Raises:
        UserError: when a token reaches beyond the text.
    """
    raw = np.frombuffer(utf8, dtype=np.uint8)
    begins = np.append(np.flatnonzero((raw & 0xC0) != 0x80), len(raw))
    last = int(chars.max(initial=0))
    if last >= len(begins):
        raise UserError(
            f"a token ends at character {last} of a document that has {len(begins) - 1}: the documents are "
            "not those that the activations were cached from"
        )
    offsets: np.ndarray = begins[chars]
    return offsets
