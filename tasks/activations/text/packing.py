"""Token sequences of fixed length: how documents fill them and which tokens count.

``block`` fills every sequence with one document after the other; attention never crosses documents.
``per_document`` gives every document its own sequences, padded at the end. A document that does not fit is
cut into chunks, or truncated to the first chunk. Every chunk starts with its own BOS and position 0, and
attention never reaches from one chunk to another.

Shapes: S sequences, T context.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import numpy.typing as npt

from catalog.schemas import Split
from tasks.activations.text.tokenisation import TokenisedDocument

Packing = Literal["block", "per_document"]
BosPolicy = Literal["none", "keep", "drop"]
LongDocuments = Literal["split", "truncate"]
PADDING = -1

IntArray = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PackingConfig:
    """How documents become sequences; token ids are those of the model's tokenizer."""

    context_length: int
    packing: Packing
    bos: BosPolicy
    drop_first_token: bool
    bos_token_id: int | None
    end_token_id: int | None
    """Closes every chunk of an encoder (SEP); None for a causal model."""
    pad_token_id: int
    long_documents: LongDocuments = "split"

    @property
    def prefix(self) -> tuple[int, ...]:
        """Special tokens before a chunk."""
        return () if self.bos == "none" or self.bos_token_id is None else (self.bos_token_id,)

    @property
    def suffix(self) -> tuple[int, ...]:
        """Special tokens after a chunk."""
        return () if self.bos == "none" or self.end_token_id is None else (self.end_token_id,)


@dataclass(frozen=True, slots=True)
class PackedTokens:
    """Packed sequences; each array is ``(S, T)``.

    Sequences lie in parts, one unless the corpus grew; in each part those of the train split come first.
    """

    token_ids: IntArray
    segment: IntArray
    """Number of the chunk within its sequence, -1 for padding; attention stays within a segment."""
    document_index: IntArray
    """Row of the document in the corpus table, -1 for padding."""
    char_start: IntArray
    char_end: IntArray
    valid: BoolArray
    """Whether training, metrics and mining use the token."""
    n_train: int
    """Sequences of the train split of the first part."""
    later_parts: tuple[tuple[int, int], ...] = ()
    """Sequences of the train and of the eval split of every further part."""

    @property
    def n_sequences(self) -> int:
        return int(self.token_ids.shape[0])

    @property
    def context_length(self) -> int:
        return int(self.token_ids.shape[1])

    @property
    def n_tokens(self) -> int:
        """Tokens that the model processes, without padding."""
        return int(np.count_nonzero(self.segment != PADDING))

    @property
    def parts(self) -> tuple[tuple[int, int], ...]:
        """Sequences of the train and of the eval split of every part."""
        n_later = sum(n_train + n_eval for n_train, n_eval in self.later_parts)
        return ((self.n_train, self.n_sequences - n_later - self.n_train), *self.later_parts)

    @property
    def is_train(self) -> BoolArray:
        """Whether a sequence belongs to the train split: ``(S,)``."""
        return np.repeat(np.tile([True, False], len(self.parts)), np.ravel(self.parts))

    @property
    def split(self) -> npt.NDArray[np.str_]:
        """``train`` or ``eval`` for every sequence: ``(S,)``."""
        return np.where(self.is_train, "train", "eval")

    def sequence_rows(self, split: Split | None = None) -> npt.NDArray[np.int64]:
        """Indices of the sequences of a split, or of all."""
        if split is None:
            return np.arange(self.n_sequences)
        return np.flatnonzero(self.is_train == (split == "train"))


ARRAYS = tuple(field.name for field in fields(PackedTokens) if field.name not in ("n_train", "later_parts"))


@dataclass(slots=True)
class PackedSequence:
    """A sequence that is being filled: arrays of length T, padding where nothing was written."""

    token_ids: IntArray
    segment: IntArray
    document_index: IntArray
    char_start: IntArray
    char_end: IntArray
    valid: BoolArray
    n_filled: int = 0
    n_segments: int = 0

    @classmethod
    def empty(cls, config: PackingConfig) -> "PackedSequence":
        """A sequence of only padding."""
        length = config.context_length
        return cls(
            np.full(length, config.pad_token_id, np.int32),
            np.full(length, PADDING, np.int32),
            np.full(length, PADDING, np.int32),
            np.zeros(length, np.int32),
            np.zeros(length, np.int32),
            np.zeros(length, np.bool_),
        )

    def add(self, document: TokenisedDocument, start: int, stop: int, config: PackingConfig) -> None:
        """Append tokens ``start`` to ``stop`` of a document as a segment, with its special tokens."""
        first = self.n_filled
        text = first + len(config.prefix)
        text_end = text + stop - start
        end = text_end + len(config.suffix)
        self.token_ids[first:text] = config.prefix
        self.token_ids[text:text_end] = document.token_ids[start:stop]
        self.token_ids[text_end:end] = config.suffix
        self.segment[first:end] = self.n_segments
        self.document_index[first:end] = document.document_index
        self.char_start[first:text] = self.char_end[first:text] = document.char_start[start]
        self.char_start[text:text_end] = document.char_start[start:stop]
        self.char_end[text:text_end] = document.char_end[start:stop]
        self.char_start[text_end:end] = self.char_end[text_end:end] = document.char_end[stop - 1]
        self.valid[first:end] = config.bos == "keep"
        self.valid[text:text_end] = True
        if config.drop_first_token:
            self.valid[text] = False
        self.n_filled, self.n_segments = end, self.n_segments + 1


def pack(
    documents: Iterable[TokenisedDocument], config: PackingConfig, n_tokens: int
) -> Iterator[PackedSequence]:
    """Fill sequences with documents until they hold ``n_tokens`` tokens or the documents end."""
    n_packed = 0
    for sequence in _all_sequences(documents, config):
        if n_packed >= n_tokens:
            return
        n_packed += sequence.n_filled
        yield sequence
        if n_packed >= n_tokens:
            return


def _all_sequences(documents: Iterable[TokenisedDocument], config: PackingConfig) -> Iterator[PackedSequence]:
    n_special = len(config.prefix) + len(config.suffix)
    sequence = PackedSequence.empty(config)
    for document in documents:
        start, length = 0, len(document.token_ids)
        while start < length:
            room = config.context_length - sequence.n_filled - n_special
            if room < 1 or (config.packing == "per_document" and sequence.n_segments):
                yield sequence
                sequence = PackedSequence.empty(config)
                continue
            stop = min(length, start + room)
            sequence.add(document, start, stop, config)
            start = stop if config.long_documents == "split" else length
        if sequence.n_filled == config.context_length:
            yield sequence
            sequence = PackedSequence.empty(config)
    if sequence.n_filled:
        yield sequence
