"""The order in which a training reads an activation set, with an exact cursor.

Legend: N tokens, T context, D d_in.

Each epoch shuffles blocks of neighbouring sequences, reads them into a buffer of ``buffer_tokens``, and
shuffles the buffer's tokens: reads stay sequential and the order within a buffer is fully random. The
order is a function of (seed, epoch, buffer), so a cursor of three numbers continues it exactly.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from catalog.errors import UserError
from catalog.schemas import Split

LARGEST_NONFINITE_SHARE = 0.001
"""A few lost tokens change no result; more say that the number format is too small."""
_BUFFER_VALUES = 2**28
_SAMPLE_VALUES = 2**26
_TOKENS_PER_READ = 16_384


class ActivationReader(Protocol):
    """The part of an activation set that training and evaluation need."""

    @property
    def d_in(self) -> int:
        """Width of an activation."""

    @property
    def context_length(self) -> int:
        """Tokens of a sequence."""

    @property
    def tokens(self) -> Any:
        """The packed tokens; ``tokens.valid`` (S, T) says which tokens count."""

    def sequence_rows(self, split: Split) -> NDArray[Any]:
        """The sequences of a split, ascending."""

    def read(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Activations of these sequences as stored: (n, T, D)."""


class Cursor(NamedTuple):
    """The next token to read: epoch, buffer of the epoch, position in the buffer."""

    epoch: int = 0
    buffer: int = 0
    position: int = 0


@dataclass
class Counts:
    """Tokens read, and those of them left out because a value was not finite."""

    n_read: int = 0
    n_nonfinite: int = 0

    def refuse_many(self) -> None:
        """Raise ``UserError`` if more than 0.1 % of the tokens were not finite."""
        if self.n_nonfinite > LARGEST_NONFINITE_SHARE * self.n_read:
            raise UserError(
                f"{self.n_nonfinite} of {self.n_read} activations are NaN or infinite: "
                "cache them again in float32, or look at the model's weights"
            )


def read_valid(activations: ActivationReader, rows: NDArray[Any], counts: Counts | None = None) -> Tensor:
    """The valid, finite tokens of some sequences, in order, as stored: (N, D).

    Sequences are read a few at a time into one block of memory.

    Raises:
        UserError: when more than 0.1 % of the tokens counted so far were not finite.
    """
    counts = counts if counts is not None else Counts()
    valid_ST = np.asarray(activations.tokens.valid[rows], dtype=bool)
    result_ND, n_filled = torch.empty(0), 0
    step = max(_TOKENS_PER_READ // activations.context_length, 1)
    for start in range(0, len(rows), step):
        x_STD = torch.from_numpy(np.ascontiguousarray(activations.read(rows[start : start + step])))
        x_ND = x_STD[torch.from_numpy(valid_ST[start : start + step])]
        counts.n_read += len(x_ND)
        finite_N = torch.isfinite(x_ND.sum(dim=1, dtype=torch.float32))
        if not finite_N.all():
            counts.n_nonfinite += int((~finite_N).sum())
            x_ND = x_ND[finite_N]
        if start == 0:
            result_ND = x_ND.new_empty((int(valid_ST.sum()), activations.d_in))
        result_ND[n_filled : n_filled + len(x_ND)] = x_ND
        n_filled += len(x_ND)
    counts.refuse_many()
    return result_ND[:n_filled]


class TokenStream:
    """Batches of train tokens without end, from a cursor on."""

    def __init__(
        self,
        activations: ActivationReader,
        *,
        seed: int,
        batch_tokens: int,
        buffer_tokens: int,
        block_sequences: int,
        cursor: Cursor | None = None,
    ) -> None:
        self.activations = activations
        self.rows = np.asarray(activations.sequence_rows("train"))
        if len(self.rows) == 0 or not np.asarray(activations.tokens.valid[self.rows]).any():
            raise UserError("the activation set has no valid train tokens: cache more documents")
        self.seed, self.batch_tokens, self.block_sequences = seed, batch_tokens, block_sequences
        buffer_tokens = min(buffer_tokens, _BUFFER_VALUES // activations.d_in)
        self.sequences_per_buffer = max(buffer_tokens // activations.context_length, 1)
        self.cursor = cursor or Cursor()
        self.counts = Counts()
        self._loaded: tuple[int, int] | None = None
        self._buffer_ND = torch.empty(0)
        self._order_N = torch.empty(0, dtype=torch.long)

    @property
    def buffers_per_epoch(self) -> int:
        """Buffers that hold the complete train split once."""
        return -(-len(self.rows) // self.sequences_per_buffer)

    @property
    def n_bytes(self) -> int:
        """Memory of the buffer with its order, of the data being read, and of a batch."""
        n_train = len(self.rows) * self.activations.context_length
        n_buffer = min(self.sequences_per_buffer * self.activations.context_length, n_train)
        stored = self.activations.read(self.rows[:1]).itemsize * self.activations.d_in
        reading = 2 * min(_TOKENS_PER_READ, n_buffer) * stored
        batch = self.batch_tokens * (stored + 3 * 4 * self.activations.d_in)
        return n_buffer * (stored + 8) + max(reading, batch)

    def __iter__(self) -> Iterator[Tensor]:
        """Batches (batch_tokens, D) in float32; ``cursor`` then stands after the batch."""
        while True:
            yield self.next_batch()

    def next_batch(self, part: slice = slice(None)) -> Tensor:
        """The next ``batch_tokens`` tokens, or a part of them; the cursor then is after all of them."""
        first, last, _ = part.indices(self.batch_tokens)
        parts: list[Tensor] = []
        done = 0
        while done < self.batch_tokens:
            self._load()
            epoch, buffer, position = self.cursor
            take_N = self._order_N[position : position + self.batch_tokens - done]
            wanted_N = take_N[max(first - done, 0) : max(last - done, 0)]
            parts.append(self._buffer_ND[wanted_N].float())
            done += len(take_N)
            if position + len(take_N) < len(self._order_N):
                self.cursor = Cursor(epoch, buffer, position + len(take_N))
            elif buffer + 1 < self.buffers_per_epoch:
                self.cursor = Cursor(epoch, buffer + 1)
            else:
                self.cursor = Cursor(epoch + 1)
        return torch.cat(parts)

    def resume(self) -> None:
        """Read the buffer of the cursor again; its tokens are already counted, unless none was used."""
        if self.cursor.position:
            counts, self.counts = self.counts, Counts()
            self._load()
            self.counts = counts

    def _load(self) -> None:
        epoch, buffer, _ = self.cursor
        if self._loaded == (epoch, buffer):
            return
        rows = self._epoch_rows(epoch)
        first = buffer * self.sequences_per_buffer
        self._buffer_ND = torch.empty(0)
        self._buffer_ND = read_valid(
            self.activations, np.sort(rows[first : first + self.sequences_per_buffer]), self.counts
        )
        order = np.random.default_rng((self.seed, epoch, buffer + 1)).permutation(len(self._buffer_ND))
        self._order_N = torch.from_numpy(order)
        self._loaded = (epoch, buffer)

    def _epoch_rows(self, epoch: int) -> NDArray[Any]:
        blocks = [
            self.rows[start : start + self.block_sequences]
            for start in range(0, len(self.rows), self.block_sequences)
        ]
        order = np.random.default_rng((self.seed, epoch, 0)).permutation(len(blocks))
        return np.concatenate([blocks[i] for i in order])


def sample_rows(rows: NDArray[Any], n_sequences: int) -> NDArray[Any]:
    """At most ``n_sequences`` of the rows, spread evenly, ascending."""
    if len(rows) <= n_sequences:
        return np.asarray(rows)
    return np.asarray(rows)[np.linspace(0, len(rows) - 1, n_sequences).round().astype(np.int64)]


def sample_tokens(
    activations: ActivationReader, split: Split, n_tokens: int, counts: Counts | None = None
) -> Tensor:
    """Valid tokens of a split, from sequences spread evenly over it: float32 (at most n_tokens, D).

    Never more than 2^26 values, a quarter of a gibibyte.
    """
    per_sequence = activations.context_length
    n_tokens = min(n_tokens, _SAMPLE_VALUES // activations.d_in)
    rows = sample_rows(activations.sequence_rows(split), max(-(-n_tokens // per_sequence), 1))
    return read_valid(activations, rows, counts)[:n_tokens].float()
