"""TopK with AuxK: exactly k latents of every token (Gao et al. 2024, arXiv 2406.04093).

With ``one_per_group`` the k latents are the largest of each of k groups: GroupMax of EleutherAI/sparsify,
which needs no selection over all latents. Each latent then competes only with its own group.
"""

from dataclasses import replace
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from catalog.errors import UserError
from tasks.dictionaries.base import ARCHITECTURES
from tasks.dictionaries.families.topk_family import KeptDictionary
from tasks.dictionaries.gradient_config import KeptConfig
from tasks.dictionaries.saelens_form import SaelensForm
from tasks.dictionaries.sparse_codes import (
    Pairs,
    pairs_per_token,
    selected_acts,
    top_per_group,
    top_per_token,
)
from tasks.dictionaries.sparse_encoding import Choice, encode_top
from tasks.dictionaries.training_state import TrainingState, TrainingStep

_MULTI = 4  # the second reconstruction of multi-TopK keeps this many times k latents


class TopKConfig(KeptConfig):
    """A TopK dictionary; ``k`` is the number of latents of every token."""

    architecture: Literal["topk"] = "topk"
    multi_topk_weight: float = Field(default=0.0, ge=0)
    """Coefficient of the unexplained variance with 4 k latents, so that codes stay useful if k is raised
    after the training; 1/8 is usual, 0 disables it."""
    anneal_share: float = Field(default=0.0, ge=0, lt=1)
    """First share of the training in which the number of kept latents falls linearly from d_in to k."""
    one_per_group: bool = False
    """Keep the largest of each of k equal groups of neighbouring latents, instead of the k largest of all."""

    @model_validator(mode="after")
    def _groups_are_fixed(self) -> Self:
        if self.one_per_group and (self.multi_topk_weight or self.anneal_share):
            raise ValueError("one_per_group fixes k: leave multi_topk_weight and anneal_share out")
        return self

    @property
    def encodes_as(self) -> str:
        """Groupmax with one latent per group."""
        return "groupmax" if self.one_per_group else super().encodes_as

    def sparsity_tag(self) -> str:
        return super().sparsity_tag() + ("-grouped" if self.one_per_group else "")

    def check_width(self, d_in: int) -> None:
        super().check_width(d_in)
        if self.one_per_group and self.n_latents(d_in) % self.k:
            raise UserError(
                f"dictionary {self.name()!r}: {self.n_latents(d_in)} latents do not fall into k = {self.k} "
                "equal groups; choose a number of latents that k divides"
            )


@ARCHITECTURES.register("topk")
class TopK(KeptDictionary):
    """Keeps the k largest pre-activations of a token, then ReLU: L0 is at most k."""

    purpose = "keeps the `k` largest pre-activations of a token"
    config: TopKConfig

    def saelens(self) -> SaelensForm | None:
        """TopK; SAELens has none with one latent per group."""
        if self.config.one_per_group:
            return None
        return SaelensForm("topk", settings={"k": self.config.k, "rescale_acts_by_decoder_norm": False})

    @property
    def choose(self) -> Choice:
        """Which latents of a token are kept: the k largest, or the largest of each group."""
        return top_per_group if self.config.one_per_group else top_per_token

    def encode_sparse(self, x_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Exactly k columns; values that are not positive are 0."""
        k = self.config.k
        if torch.is_grad_enabled():
            values_NK, indices_NK = self.choose(self.pre_acts(x_ND), k)
        else:
            values_NK, indices_NK = encode_top(self.centred(x_ND), self.W_enc, self.b_enc, k, self.choose)
        return values_NK.relu(), indices_NK

    def encode(self, x_ND: Tensor) -> Tensor:
        """Latent activations (N, L) with at most k positive entries in each row."""
        values_NK, indices_NK = self.encode_sparse(x_ND)
        return values_NK.new_zeros(len(x_ND), self.d_sae).scatter(1, indices_NK, values_NK)

    def k_now(self, state: TrainingState) -> int:
        """Latents kept per token in this step: k, more while it is annealed."""
        k, share = self.config.k, self.config.anneal_share
        if state.progress >= share:
            return k
        start = max(min(self.d_in, self.d_sae), k)
        return k + round((start - k) * (1 - state.progress / share))

    def select(self, pre_NL: Tensor, state: TrainingState) -> Pairs:
        """The latents selected for each token."""
        return pairs_per_token(self.choose(pre_NL, self.k_now(state))[1], self.d_sae)

    def keep(self, centred_ND: Tensor, state: TrainingState) -> tuple[Pairs, Tensor]:
        """The same, slice by slice."""
        k = self.k_now(state)
        values_NK, indices_NK = encode_top(centred_ND, self.W_enc, self.b_enc, k, self.choose)
        return pairs_per_token(indices_NK, self.d_sae), values_NK.reshape(-1)

    def training_loss(self, x_ND: Tensor, y_NE: Tensor, state: TrainingState) -> TrainingStep:
        """The loss of its family, plus ``multi_topk_weight`` times the FVU with 4 k latents."""
        step = super().training_loss(x_ND, y_NE, state)
        if self.config.multi_topk_weight == 0:
            return step
        with torch.no_grad():
            centred_ND, k = self.centred(x_ND), min(_MULTI * self.config.k, self.d_sae)
            values_NK, indices_NK = encode_top(centred_ND, self.W_enc, self.b_enc, k)
            pairs = pairs_per_token(indices_NK, self.d_sae)
        pre_P = values_NK.reshape(-1)
        acts_P = selected_acts(centred_ND, self.W_enc, self.b_enc, self.centre(), pre_P, pairs)
        error_NE = y_NE - self.add_offset(pairs.decode(acts_P, self.W_dec), x_ND)
        fvu = error_NE.square().sum(dim=1).mean() / state.total_variance
        parts = {**step.parts, "multi_topk_fvu": fvu.detach()}
        return replace(step, loss=step.loss + self.config.multi_topk_weight * fvu, parts=parts)
