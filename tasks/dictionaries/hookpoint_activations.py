"""The activations that a dictionary reads and those that it writes, concatenated in one array.

Legend: N tokens, T context, W width of all hookpoints together, D d_in, E d_out.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from catalog.errors import UserError
from catalog.schemas import Split
from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.stream import ActivationReader
from tasks.dictionaries.widths import Widths


class HookpointActivations:
    """Several activation sets of the same tokens as one, for training and mining.

    Args:
        reads: One set per hookpoint that is read.
        writes: One set per hookpoint that is written; empty if the input is reconstructed.

    Raises:
        UserError: when the sets do not hold the same tokens.
    """

    def __init__(
        self, reads: Sequence[ActivationReader], writes: Sequence[ActivationReader] | None = None
    ) -> None:
        self.reads, self.writes = tuple(reads), None if writes is None else tuple(writes)
        self._all = self.reads + (self.writes or ())
        self.targets = self.reads if self.writes is None else self.writes
        self.widths = Widths(tuple(s.d_in for s in self.reads), tuple(s.d_in for s in self.targets))
        for other in self._all[1:]:
            _check_same_tokens(self._all[0], other)

    @classmethod
    def of(cls, activations: "ActivationReader | HookpointActivations") -> "HookpointActivations":
        """One activation set, read and written; several stay as they are."""
        return activations if isinstance(activations, HookpointActivations) else cls([activations])

    def as_read_by(self, dictionary: Dictionary) -> "HookpointActivations":
        """The input of a dictionary: these activations, in context if it reads context."""
        return InContext(self, dictionary) if dictionary.reads_context else self

    @property
    def inputs(self) -> Any:
        """The input of an encoder: the activation set itself if there is one, else the sets read as one."""
        if len(self.reads) == 1:
            return self.reads[0]
        return self if self.writes is None else HookpointActivations(self.reads)

    @property
    def d_in(self) -> int:
        """Width of the result of ``read``: all hookpoints concatenated."""
        return sum(self.hookpoint_widths)

    @property
    def hookpoint_widths(self) -> tuple[int, ...]:
        """Width of each hookpoint, those read first, then those written."""
        return tuple(reader.d_in for reader in self._all)

    @property
    def n_sequences(self) -> int:
        """Sequences of both splits."""
        return len(self.tokens.valid)

    @property
    def context_length(self) -> int:
        """Tokens of a sequence."""
        return self._all[0].context_length

    @property
    def tokens(self) -> Any:
        """The packed tokens, the same in all sets."""
        return self._all[0].tokens

    @property
    def meta(self) -> dict[str, Any]:
        """The metadata of the first set that is read."""
        return dict(getattr(self.reads[0], "meta", {}))

    @property
    def hookpoint(self) -> str:
        """The hookpoints that are read, as a sentence names them."""
        return " and ".join(hookpoint_names(self.reads))

    @property
    def target_names(self) -> tuple[str, ...]:
        """The hookpoints that are written, each with its model if there are several models."""
        return hookpoint_names(self.targets)

    def sequence_rows(self, split: Split) -> NDArray[Any]:
        """The sequences of a split, ascending."""
        return self._all[0].sequence_rows(split)

    def read(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Activations of these sequences, hookpoints concatenated: (n, T, W)."""
        if len(self._all) == 1:
            return self._all[0].read(rows)
        return np.concatenate([reader.read(rows) for reader in self._all], axis=2)

    def batches(
        self, rows: NDArray[Any] | Sequence[int], sequences_per_batch: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[Any], NDArray[np.bool_]]]:
        """Yield ``(rows (n,), activations (n, T, W), valid (n, T))`` in the order of ``rows``."""
        wanted = np.asarray(rows, dtype=np.int64)
        for start in range(0, wanted.size, sequences_per_batch):
            chosen = wanted[start : start + sequences_per_batch]
            yield chosen, self.read(chosen), np.asarray(self.tokens.valid[chosen])

    def split(self, values_NW: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (N, D) and targets (N, E); the same tensor if the input is reconstructed."""
        if self.writes is None:
            return values_NW, values_NW
        x_ND, y_NE = torch.split(values_NW, [self.widths.d_in, self.widths.d_out], dim=1)
        return x_ND.contiguous(), y_NE.contiguous()

    def split_vector(self, values_W: Tensor) -> tuple[Tensor, Tensor]:
        """The same for one number per activation: (D,) and (E,)."""
        x_1D, y_1E = self.split(values_W.unsqueeze(0))
        return x_1D[0], y_1E[0]


class InContext(HookpointActivations):
    """Activations with what a dictionary needs from the tokens before them, see `Dictionary.in_context`.

    ``read`` returns rows of the dictionary's ``input_width``, which start with the activation.

    Args:
        activations: Those of the hookpoints that the dictionary reads and reconstructs.
        dictionary: A dictionary that reads context.
    """

    def __init__(self, activations: HookpointActivations, dictionary: Dictionary) -> None:
        super().__init__(activations.reads, activations.writes)
        self.dictionary = dictionary

    @property
    def inputs(self) -> Any:
        """These rows."""
        return self

    @property
    def d_in(self) -> int:
        """Width of the result of ``read``."""
        return self.dictionary.input_width

    @torch.no_grad()
    def read(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows of these sequences in float32: (n, T, W)."""
        device = self.dictionary.W_dec.device
        x_STD = torch.from_numpy(np.ascontiguousarray(super().read(rows))).to(device, torch.float32)
        segment_ST = torch.from_numpy(np.array(self.tokens.segment[rows])).to(device)
        read_STW: NDArray[Any] = self.dictionary.in_context(x_STD, segment_ST).cpu().numpy()
        return read_STW

    def split(self, values_NW: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (N, W), and the activations (N, D) to reconstruct."""
        return values_NW, values_NW[:, : self.widths.d_in]


def hookpoint_names(readers: Sequence[ActivationReader]) -> tuple[str, ...]:
    """Hookpoints of activation sets, each with its model if there are several models."""
    hookpoints = [str(getattr(reader, "hookpoint", number)) for number, reader in enumerate(readers)]
    models = [str(getattr(reader, "meta", {}).get("model_id", "")) for reader in readers]
    if len(set(models)) == 1:
        return tuple(hookpoints)
    return tuple(f"{model}/{hookpoint}" for model, hookpoint in zip(models, hookpoints, strict=True))


def _check_same_tokens(first: ActivationReader, other: ActivationReader) -> None:
    if first.tokens is other.tokens:
        return
    for name in ("token_ids", "segment", "document_index"):
        ours, theirs = getattr(first.tokens, name, None), getattr(other.tokens, name, None)
        if ours is None or theirs is None or not np.array_equal(ours, theirs):
            raise UserError(
                "the activation sets hold different tokens: cache the same corpus with the same settings and "
                "tokenizer for every hookpoint of a dictionary"
            )
