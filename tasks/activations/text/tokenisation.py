"""Documents to tokens with character offsets, in an order in which every prefix is a fair sample."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tasks.activations.text.control_tokens import PlainTextTokenizer, control_ids, is_misread

DOCUMENTS_PER_CALL = 64
MAX_CHARS_PER_CALL = 250_000
MOST_CHARS_PER_TOKEN = 64
"""A document is tokenised only up to this many characters per token of the budget."""

IntArray = npt.NDArray[np.int32]


class TokenisedDocument(NamedTuple):
    """Tokens of one document, without special tokens; offsets are code points of the document's text."""

    document_index: int
    """Row of the document in the corpus table."""
    token_ids: IntArray
    char_start: IntArray
    char_end: IntArray


def sampled_order(documents: pa.Table, split: str, seed: int) -> list[int]:
    """Rows of one split, ordered by a hash of seed and document id."""
    rows = np.flatnonzero(pc.equal(documents["split"], split).to_numpy())
    names = documents["document_id"].take(pa.array(rows)).to_pylist()
    keys = [hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in names]
    return [int(rows[i]) for i in sorted(range(len(rows)), key=keys.__getitem__)]


def tokenise(
    tokenizer: Any,
    texts: pa.ChunkedArray,
    rows: Sequence[int],
    n_tokens: int,
    *,
    has_special_tokens: bool = False,
) -> Iterator[TokenisedDocument]:
    """Tokenise the texts of ``rows`` in that order; the caller stops when it has enough.

    What looks like a control token in a text is tokenised as text, unless the texts are conversations into
    which a chat template put such tokens. A document without tokens is left out.

    Args:
        tokenizer: A fast Transformers tokenizer.
        texts: The corpus' text column.
        rows: Rows of it to tokenise.
        n_tokens: Total number of tokens the caller needs; no document is read much further than this.
        has_special_tokens: Whether special tokens in the texts are intended.
    """
    longest = n_tokens * MOST_CHARS_PER_TOKEN
    control = frozenset() if has_special_tokens else control_ids(tokenizer)
    plain: PlainTextTokenizer | None = None
    for call in _calls(texts, rows, longest):
        encoded = tokenizer(
            [text for _, text in call],
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            split_special_tokens=not has_special_tokens,
            verbose=False,
        )
        pairs = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        for (row, text), (token_ids, offsets) in zip(call, pairs, strict=True):
            if control and is_misread(tokenizer, text, token_ids, control):
                plain = plain or PlainTextTokenizer(tokenizer, control)
                token_ids, offsets = plain.encode(text)
            if token_ids:
                offset_pairs = np.asarray(offsets, dtype=np.int32)
                ids = np.asarray(token_ids, dtype=np.int32)
                yield TokenisedDocument(row, ids, offset_pairs[:, 0], offset_pairs[:, 1])


def _calls(texts: pa.ChunkedArray, rows: Sequence[int], longest: int) -> Iterator[list[tuple[int, str]]]:
    """Group documents so that one tokenizer call is efficient and memory stays bounded."""
    call: list[tuple[int, str]] = []
    n_chars = 0
    for row in rows:
        text = texts[row].as_py()[:longest]
        if call and (len(call) == DOCUMENTS_PER_CALL or n_chars + len(text) > MAX_CHARS_PER_CALL):
            yield call
            call, n_chars = [], 0
        call.append((row, text))
        n_chars += len(text)
    if call:
        yield call
