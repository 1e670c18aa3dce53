"""BatchTopK: k latents per token on average (Bussmann et al. 2024, arXiv 2412.06410)."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from tasks.dictionaries.base import ARCHITECTURES
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.families.topk_family import KeptDictionary
from tasks.dictionaries.gradient_config import KeptConfig
from tasks.dictionaries.saelens_form import THRESHOLDS, SaelensForm
from tasks.dictionaries.sparse_codes import Pairs, top_of_batch
from tasks.dictionaries.sparse_encoding import encode_top_of_batch
from tasks.dictionaries.training_state import TrainingState
from tasks.dictionaries.widths import Widths

_LARGEST_L0_ERROR = 0.1
"""A learned threshold with L0 within 10 % of k is kept; otherwise it is set to give k on the sample."""


class BatchTopKConfig(KeptConfig):
    """A BatchTopK dictionary; ``k`` is the mean number of latents of a token."""

    architecture: Literal["batch_topk"] = "batch_topk"
    threshold_decay: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the running mean of the smallest kept activation, the threshold at inference."""
    threshold_start_step: int = Field(default=1000, ge=0)
    """Step at which that running mean starts, at the latest halfway through the training."""


@ARCHITECTURES.register("batch_topk")
class BatchTopK(KeptDictionary):
    """Trains on the ``k * N`` largest activations of a batch; encodes with one learned threshold.

    At inference each token is encoded independently, ``acts * (acts > threshold)``, so no information passes
    between the tokens of a batch.
    """

    purpose = "keeps activations above one learned threshold, `k` per token on average"
    config: BatchTopKConfig
    threshold: Tensor

    def __init__(self, config: DictionaryConfig, widths: Widths) -> None:
        super().__init__(config, widths)
        self.register_buffer("threshold", torch.tensor(-1.0))
        self._floor = 0.0

    def saelens(self) -> SaelensForm | None:
        """JumpReLU: each latent fires above a threshold."""
        return THRESHOLDS

    def encode(self, x_ND: Tensor) -> Tensor:
        """Latent activations (N, L): those strictly above the threshold."""
        acts_NL = self.pre_acts(x_ND).relu()
        return acts_NL * (self.keys(acts_NL) > self.threshold)

    def keys(self, acts_NL: Tensor) -> Tensor:
        """Hook: the keys by which latents are selected, comparable between latents; activations (N, L)."""
        return acts_NL

    def select(self, pre_NL: Tensor, state: TrainingState) -> Pairs:
        """The ``k * N`` largest positive keys of the batch."""
        return top_of_batch(self.keys(pre_NL), self.config.k * len(pre_NL), self._floor)

    def keep(self, centred_ND: Tensor, state: TrainingState) -> tuple[Pairs, Tensor]:
        """The same, slice by slice where keys are the activations themselves."""
        if type(self).keys is not BatchTopK.keys:
            return super().keep(centred_ND, state)
        n_keep = self.config.k * len(centred_ND)
        return encode_top_of_batch(centred_ND, self.W_enc, self.b_enc, n_keep, self._floor)

    @torch.no_grad()
    def observe(self, pairs: Pairs, acts_P: Tensor, state: TrainingState) -> None:
        """Move the threshold to the smallest kept activation; copy the first one."""
        if len(acts_P) == 0:
            return
        smallest = acts_P.min()
        self._floor = 0.9 * float(smallest)
        if state.step >= min(self.config.threshold_start_step, state.n_steps // 2):
            self.learn_threshold(smallest)

    @torch.no_grad()
    def learn_threshold(self, smallest: Tensor) -> None:
        """``threshold <- decay * threshold + (1 - decay) * smallest``, from the first value on."""
        decay = self.config.threshold_decay if float(self.threshold) >= 0 else 0.0
        self.threshold.mul_(decay).add_(smallest, alpha=1 - decay)

    @torch.no_grad()
    def after_training(self, sample_ND: Tensor) -> dict[str, float]:
        """Set the threshold to the quantile that gives L0 = k if the learned one is off by 10 %."""
        learned, k = float(self.threshold), self.config.k
        acts_NL = self.keys(self.pre_acts(sample_ND).relu())
        l0 = float((acts_NL > self.threshold).sum()) / len(sample_ND)
        n_above = k * len(sample_ND)
        if (learned < 0 or abs(l0 / k - 1) > _LARGEST_L0_ERROR) and n_above < acts_NL.numel():
            self.threshold.copy_(torch.topk(acts_NL.flatten(), n_above + 1).values[-1])
        return {"threshold_learned": learned, "threshold": float(self.threshold)}

    def scaled_with_output(self) -> tuple[str, ...]:
        """Biases and the threshold."""
        return (*super().scaled_with_output(), "threshold")
