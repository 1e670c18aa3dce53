"""Matryoshka BatchTopK: the first latents must reconstruct alone (Bussmann et al. 2025, arXiv 2503.17547).

Legend: N tokens, D d_in, E d_out, L d_sae, P kept pairs, G groups.
"""

import math
from itertools import accumulate
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from catalog.errors import UserError
from tasks.dictionaries.architectures.batch_topk import BatchTopK, BatchTopKConfig
from tasks.dictionaries.base import ARCHITECTURES
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.sparse_codes import Pairs
from tasks.dictionaries.widths import Widths


class MatryoshkaConfig(BatchTopKConfig):
    """A Matryoshka BatchTopK dictionary; ``k`` is the mean number of latents of a token."""

    architecture: Literal["matryoshka_batch_topk"] = "matryoshka_batch_topk"  # type: ignore[assignment]
    group_shares: tuple[float, ...] = Field(default=(1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2), min_length=1)
    """Shares of the latents in each group, the coarsest group first; they add up to 1."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if min(self.group_shares) <= 0 or not math.isclose(sum(self.group_shares), 1, abs_tol=1e-6):
            raise ValueError("group_shares must be positive and add up to 1")
        return self

    def group_sizes(self, d_in: int) -> list[int]:
        """Latents of each group; the ends of the groups are rounded."""
        n_latents = self.n_latents(d_in)
        ends = [round(share * n_latents) for share in accumulate(self.group_shares)]
        return [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def check_width(self, d_in: int) -> None:
        super().check_width(d_in)
        if min(self.group_sizes(d_in)) < 1:
            raise UserError(
                f"dictionary {self.name()!r}: {self.n_latents(d_in)} latents are too few for the groups "
                f"{self.group_sizes(d_in)}; give fewer group_shares or a larger expansion_factor"
            )


@ARCHITECTURES.register("matryoshka_batch_topk")
class MatryoshkaBatchTopK(BatchTopK):
    """BatchTopK over all latents; every prefix of groups reconstructs the input with ``b_dec``.

    It minimises the mean over the prefixes of the squared error per token. Public code uses another scale
    (sum over prefixes, or 1 / G^2), which changes the relative coefficient of AuxK.
    """

    purpose = "is a `batch_topk` whose first groups of latents reconstruct alone too"
    config: MatryoshkaConfig
    nested_groups = True

    def __init__(self, config: DictionaryConfig, widths: Widths) -> None:
        super().__init__(config, widths)
        self.group_sizes = self.config.group_sizes(self.d_in)

    def fit(self, pairs: Pairs, acts_P: Tensor, x_ND: Tensor, y_NE: Tensor) -> tuple[Tensor, Tensor]:
        """Error of all groups together, and the mean of the squared errors of all prefixes."""
        summed_NE = torch.zeros_like(y_NE)
        squares: list[Tensor] = []
        error_NE, first = y_NE, 0
        for W_dec_group in torch.split(self.W_dec, self.group_sizes):
            keep_P, group = _within(pairs, first, len(W_dec_group))
            summed_NE = summed_NE + group.decode(acts_P[keep_P], W_dec_group)
            error_NE = y_NE - self.add_offset(summed_NE, x_ND)
            squares.append(error_NE.square().sum(dim=1).mean())
            first += len(W_dec_group)
        return error_NE, torch.stack(squares).mean()

    def feature_columns(self) -> dict[str, list[Any]]:
        """The threshold, and the group of each latent."""
        groups = torch.arange(len(self.group_sizes)).repeat_interleave(torch.tensor(self.group_sizes))
        return {**super().feature_columns(), "feature_group": groups.tolist()}


def _within(pairs: Pairs, first: int, n_latents: int) -> tuple[Tensor, Pairs]:
    """Which pairs have one of the ``n_latents`` latents from ``first`` on, and those pairs."""
    keep_P = (pairs.latents >= first) & (pairs.latents < first + n_latents)
    tokens_P = pairs.tokens[keep_P]
    counts_N = torch.bincount(tokens_P, minlength=len(pairs.starts))
    return keep_P, Pairs(tokens_P, pairs.latents[keep_P] - first, counts_N.cumsum(0) - counts_N, n_latents)
