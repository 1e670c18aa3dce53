"""BatchTopK crosscoder (Minder et al. 2025, arXiv 2504.02922): fewer latents look specific to one model."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tasks.dictionaries.architectures.batch_topk import BatchTopK, BatchTopKConfig
from tasks.dictionaries.base import ARCHITECTURES
from tasks.dictionaries.families.crosscoder_family import CrosscoderFields, Crosscoding
from tasks.dictionaries.sparse_codes import Pairs
from tasks.dictionaries.training_state import TrainingState


class BatchTopKCrosscoderConfig(CrosscoderFields, BatchTopKConfig):
    """A BatchTopK crosscoder; ``k`` is the mean number of latents of a token."""

    example: ClassVar[dict[str, Any]] = {"k": 2, "reads": ["blocks.1.resid_post", "blocks.2.resid_post"]}

    architecture: Literal["batch_topk_crosscoder"] = "batch_topk_crosscoder"  # type: ignore[assignment]


@ARCHITECTURES.register("batch_topk_crosscoder")
class BatchTopKCrosscoder(Crosscoding, BatchTopK):
    """Latents are selected by ``f sum_M |W_dec^M|``; the threshold at inference uses the same unit."""

    purpose = "reconstructs several hookpoints or two models with the `k · N` largest activations"
    config: BatchTopKCrosscoderConfig

    def keys(self, acts_NL: Tensor) -> Tensor:
        """Activations times summed decoder norms: (N, L)."""
        return acts_NL * self.summed_norms()

    @torch.no_grad()
    def observe(self, pairs: Pairs, acts_P: Tensor, state: TrainingState) -> None:
        """Learn the threshold from the keys of the kept pairs."""
        super().observe(pairs, acts_P * self.summed_norms()[pairs.latents], state)

    def feature_columns(self) -> dict[str, list[Any]]:
        """The columns of the base class, and the activation that each latent must exceed."""
        threshold_L = self.threshold.clamp_min(0) / self.summed_norms().detach().clamp_min(1e-12)
        return {**super().feature_columns(), "threshold": threshold_L.tolist()}
