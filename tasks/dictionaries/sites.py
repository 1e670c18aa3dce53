"""The activations that a dictionary reads and those it writes, side by side in one array.

Legend: N tokens, T context, W width of all hookpoints together, D d_in, E d_out.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from catalog.errors import UserError
from catalog.schemas import Split
from tasks.dictionaries.base import Widths
from tasks.dictionaries.stream import ActivationReader


class SiteActivations:
    """Several activation sets of the same tokens as one; itself something to train and to mine on.

    Args:
        reads: One set per hookpoint that is read.
        writes: One set per hookpoint that is written; left out where the input is reconstructed.

    Raises:
        UserError: when the sets do not hold the same tokens.
    """

    def __init__(
        self, reads: Sequence[ActivationReader], writes: Sequence[ActivationReader] | None = None
    ) -> None:
        self.reads, self.writes = tuple(reads), None if writes is None else tuple(writes)
        self._all = self.reads + (self.writes or ())
        targets = self.reads if self.writes is None else self.writes
        self.widths = Widths(tuple(s.d_in for s in self.reads), tuple(s.d_in for s in targets))
        for other in self._all[1:]:
            _check_same_tokens(self._all[0], other)

    @classmethod
    def of(cls, activations: "ActivationReader | SiteActivations") -> "SiteActivations":
        """One activation set, read and written; several stay what they are."""
        return activations if isinstance(activations, SiteActivations) else cls([activations])

    @property
    def d_in(self) -> int:
        """Width of what ``read`` gives: all hookpoints side by side."""
        return sum(self.site_widths)

    @property
    def site_widths(self) -> tuple[int, ...]:
        """Width of each hookpoint, those read first, then those written."""
        return tuple(site.d_in for site in self._all)

    @property
    def context_length(self) -> int:
        """Tokens of a sequence."""
        return self._all[0].context_length

    @property
    def tokens(self) -> Any:
        """The packed tokens, the same in all sets."""
        return self._all[0].tokens

    def sequence_rows(self, split: Split) -> NDArray[Any]:
        """The sequences of a split, ascending."""
        return self._all[0].sequence_rows(split)

    def read(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Activations of these sequences, hookpoints side by side: (n, T, W)."""
        if len(self._all) == 1:
            return self._all[0].read(rows)
        return np.concatenate([site.read(rows) for site in self._all], axis=2)

    def split(self, values_NW: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (N, D) and targets (N, E); the same tensor where the input is reconstructed."""
        if self.writes is None:
            return values_NW, values_NW
        x_ND, y_NE = torch.split(values_NW, [self.widths.d_in, self.widths.d_out], dim=1)
        return x_ND.contiguous(), y_NE.contiguous()

    def split_vector(self, values_W: Tensor) -> tuple[Tensor, Tensor]:
        """The same of one number per activation: (D,) and (E,)."""
        x_1D, y_1E = self.split(values_W.unsqueeze(0))
        return x_1D[0], y_1E[0]


def _check_same_tokens(first: ActivationReader, other: ActivationReader) -> None:
    ours, theirs = getattr(first.tokens, "token_ids", None), getattr(other.tokens, "token_ids", None)
    if ours is theirs:
        return
    if ours is None or theirs is None or not np.array_equal(ours, theirs):
        raise UserError(
            "the activation sets hold different tokens: cache the same corpus with the same settings and "
            "tokenizer for every hookpoint of a dictionary"
        )
