"""Feature Choice: every latent keeps its share of the tokens of a batch (Ayonrinde 2024, arXiv 2411.02124).

Legend: N tokens, D d_in, L d_sae, P kept pairs.
"""

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from catalog.errors import UserError
from tasks.dictionaries.base import ARCHITECTURES
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.families.zipf_auxk import ChoiceConfig, ZipfRevival, integer_quotas
from tasks.dictionaries.saelens_form import THRESHOLDS, SaelensForm
from tasks.dictionaries.sparse_codes import Pairs, pairs_of_mask, top_of_batch
from tasks.dictionaries.training_state import TrainingState
from tasks.dictionaries.widths import Widths

_LARGEST_L0_ERROR = 0.1
"""As for BatchTopK: within 10 % of k the learned threshold is kept."""


class FeatureChoiceConfig(ChoiceConfig):
    """A Feature Choice dictionary; ``k`` is the mean number of latents of a token."""

    architecture: Literal["feature_choice"] = "feature_choice"
    quotas: Literal["zipf", "uniform"] = "zipf"
    """How the k * N pairs of a batch are distributed over the latents."""
    mutual_share: float = Field(default=0.5, ge=0, lt=1)
    """First share of the training in which the largest pairs of the whole batch are kept (Mutual Choice)."""
    threshold_decay: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the running mean of each latent's smallest kept activation, its threshold at inference."""

    @model_validator(mode="after")
    def _law_known(self) -> Self:
        if self.mutual_share == 0 and self.quotas == "zipf" and self.zipf_exponent is None:
            raise ValueError(
                "with mutual_share 0 nothing can be fitted: give zipf_exponent or uniform quotas"
            )
        return self

    def check_width(self, d_in: int) -> None:
        super().check_width(d_in)
        if self.k * self.batch_tokens < self.n_latents(d_in):
            raise UserError(
                f"dictionary {self.name()!r}: {self.k} x {self.batch_tokens} pairs of a batch cannot give "
                f"each of {self.n_latents(d_in)} latents a token; raise batch_tokens"
            )


@ARCHITECTURES.register("feature_choice")
class FeatureChoice(ZipfRevival):
    """Mutual Choice first, then each latent keeps the tokens with its largest activations.

    Quotas follow the rank of the latents at the change, by Zipf's law fitted to their rates. At inference
    each latent has its own threshold, so tokens are encoded independently.
    """

    purpose = "gives every latent its quota of tokens by Zipf's law"
    config: FeatureChoiceConfig
    threshold: Tensor

    def __init__(self, config: DictionaryConfig, widths: Widths) -> None:
        super().__init__(config, widths)
        self.register_buffer("threshold", torch.full((self.d_sae,), -1.0))

    def saelens(self) -> SaelensForm:
        """JumpReLU: each latent fires above a threshold."""
        return THRESHOLDS

    def encode(self, x_ND: Tensor) -> Tensor:
        """Latent activations (N, L): those strictly above the threshold of their latent."""
        acts_NL = self.pre_acts(x_ND).relu()
        return acts_NL * (acts_NL > self.threshold)

    def select(self, pre_NL: Tensor, state: TrainingState) -> Pairs:
        """The largest positive pre-activations of the batch, later of each latent."""
        n_keep = self.config.k * len(pre_NL)
        if state.progress < self.config.mutual_share:
            return top_of_batch(pre_NL, n_keep)
        if "quota_rates" not in state.memory:
            state.memory["quota_rates"] = self.quota_rates(state.memory.get("rates"))
        quotas_L = integer_quotas(state.memory["quota_rates"], n_keep, len(pre_NL))
        return top_of_columns(pre_NL, quotas_L.to(pre_NL.device))

    def quota_rates(self, rates_L: Tensor | None) -> Tensor:
        """The rate of each latent from now on: (L,); without rates ranks are latent indices."""
        if self.config.quotas == "uniform":
            return self.b_enc.new_full((self.d_sae,), self.config.k / self.d_sae)
        known_L = self.b_enc.new_zeros(self.d_sae) if rates_L is None else rates_L
        law_L = self.config.curve(known_L).rates(self.d_sae, self.config.k)
        result_L = torch.empty_like(known_L)
        result_L[known_L.argsort(descending=True, stable=True)] = law_L.to(known_L)
        return result_L

    @torch.no_grad()
    def observe(self, pairs: Pairs, acts_P: Tensor, state: TrainingState) -> None:
        """Update the rates, and move each threshold to the smallest kept activation of its latent."""
        super().observe(pairs, acts_P, state)
        if "quota_rates" in state.memory:
            smallest_L = acts_P.new_full((self.d_sae,), torch.inf)
            smallest_L.scatter_reduce_(0, pairs.latents, acts_P, "amin")
            self.learn_thresholds(smallest_L)

    @torch.no_grad()
    def learn_thresholds(self, smallest_L: Tensor) -> None:
        """``threshold <- decay * threshold + (1 - decay) * smallest``; inf means no value."""
        decay_L = torch.where(self.threshold >= 0, self.config.threshold_decay, 0.0).to(self.threshold)
        moved_L = decay_L * self.threshold + (1 - decay_L) * smallest_L
        self.threshold.copy_(torch.where(smallest_L.isfinite(), moved_L, self.threshold))

    @torch.no_grad()
    def after_training(self, sample_ND: Tensor) -> dict[str, float]:
        """If L0 misses k by more than 10 %, multiply all thresholds by the factor that gives k."""
        acts_NL = self.pre_acts(sample_ND).relu()
        self.threshold.clamp_(min=1e-6 * float(acts_NL.max()))
        l0 = float((acts_NL > self.threshold).sum()) / len(sample_ND)
        n_above = self.config.k * len(sample_ND)
        factor = 1.0
        if abs(l0 / self.config.k - 1) > _LARGEST_L0_ERROR and n_above < acts_NL.numel():
            factor = float(torch.topk((acts_NL / self.threshold).flatten(), n_above + 1).values[-1])
            self.threshold.mul_(factor)
        return {"l0_learned": l0, "threshold_factor": factor}

    def scaled_with_output(self) -> tuple[str, ...]:
        """Biases and thresholds."""
        return (*super().scaled_with_output(), "threshold")


def top_of_columns(pre_NL: Tensor, quotas_L: Tensor) -> Pairs:
    """For each latent the ``quotas_L`` largest entries, if they are positive.

    Latents with quotas of one power of two are ranked together, as deep as the largest of them needs.
    """
    mask_NL = torch.zeros_like(pre_NL, dtype=torch.bool)
    buckets_L = (quotas_L.double().log2().ceil()).clamp_min(0)
    for bucket in sorted(set(buckets_L[quotas_L > 0].tolist())):
        members = ((buckets_L == bucket) & (quotas_L > 0)).nonzero().squeeze(1)
        quotas = quotas_L[members]
        best = pre_NL[:, members].T.topk(int(quotas.max()), dim=1)
        ranks = torch.arange(best.values.shape[1], device=pre_NL.device)
        keep = (ranks < quotas.unsqueeze(1)) & (best.values > 0)
        mask_NL[best.indices[keep], members.unsqueeze(1).expand_as(keep)[keep]] = True
    return pairs_of_mask(mask_NL)
