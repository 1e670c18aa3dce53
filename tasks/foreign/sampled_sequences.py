"""The sequences from which a sample was taken, for dictionaries that read the tokens before each token.

Legend: S sequences, T context, D width of a hookpoint, N tokens of the sample, W rows in context.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tasks.dictionaries.base import Dictionary


@dataclass(frozen=True)
class Whole:
    """All tokens of the sequences of a sample, including those that do not count."""

    values: Mapping[str, Tensor]
    """Activations (S, T, D) in float32 by hookpoint."""
    segment_ST: Tensor
    """Number of the document within its sequence."""
    places_N: Tensor
    """Where the tokens of the sample stand, row by row, ascending."""

    @classmethod
    def of(cls, values: Mapping[str, Sequence[Tensor]], segment_ST: Tensor, valid_ST: Tensor) -> "Whole":
        """Of batches of sequences; the tokens of the sample are the valid ones."""
        places_N = valid_ST.flatten().nonzero().squeeze(1)
        return cls({name: torch.cat(list(parts)) for name, parts in values.items()}, segment_ST, places_N)

    def taken(self, which: Tensor | slice) -> "Whole":
        """The same with some of the tokens."""
        return replace(self, places_N=self.places_N[which])

    def rows(self, dictionary: Dictionary, hookpoints: Sequence[str]) -> Tensor:
        """The tokens in the form in which a dictionary encodes them: (N, W); later sequences are ignored."""
        n_sequences = int(self.places_N.max()) // self.segment_ST.shape[1] + 1
        x_STD = torch.cat([self.values[hookpoint][:n_sequences] for hookpoint in hookpoints], dim=2)
        rows_STW = dictionary.in_context(x_STD, self.segment_ST[:n_sequences])
        return rows_STW.flatten(0, 1)[self.places_N]
