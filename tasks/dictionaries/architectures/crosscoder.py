"""Crosscoder with ReLU and a penalty on summed decoder norms (Lindsey et al. 2024, "Sparse Crosscoders")."""

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from tasks.dictionaries.base import ARCHITECTURES
from tasks.dictionaries.families.crosscoder_family import CrosscoderFields, Crosscoding
from tasks.dictionaries.training_state import TrainingState, TrainingStep


class CrosscoderConfig(CrosscoderFields):
    """A ReLU crosscoder; ``l1_coefficient`` trades reconstruction for sparsity."""

    example: ClassVar[dict[str, Any]] = {
        "l1_coefficient": 0.3,
        "reads": ["blocks.1.resid_post", "blocks.2.resid_post"],
    }

    architecture: Literal["crosscoder"] = "crosscoder"
    l1_coefficient: float = Field(gt=0)
    """Coefficient of the activations times summed decoder norms, stated for inputs of unit mean norm."""
    sparsity_warmup_steps: int = Field(default=2000, ge=0)
    """Steps in which that coefficient rises linearly, at most a tenth of the training."""
    beta2: float | None = Field(default=None, ge=0, lt=1)
    """Adam's decay of the second moment; default: by the length of the training."""

    def sparsity_tag(self) -> str:
        return f"l{self.l1_coefficient:g}"


@ARCHITECTURES.register("crosscoder")
class Crosscoder(Crosscoding):
    """``relu``; the penalty zeroes the decoder of one model more than it should, see ``error_ratio``."""

    purpose = "reconstructs several hookpoints or two models together, by ReLU with an L1 penalty"
    config: CrosscoderConfig

    def encode(self, x_ND: Tensor) -> Tensor:
        """Latent activations (N, L)."""
        return self.pre_acts(x_ND).relu()

    def training_loss(self, x_ND: Tensor, y_NE: Tensor, state: TrainingState) -> TrainingStep:
        """``sum_M |e^M|^2 / norm^2 + l1_coefficient * sum_L f sum_M |W_dec^M| / norm``, mean over tokens."""
        acts_NL = self.encode(x_ND)
        sse = (y_NE - self.decode(acts_NL, x_ND)).square().sum(dim=1).mean()
        l1 = (acts_NL * self.summed_norms()).sum(dim=1).mean() / state.mean_norm
        coefficient = self.config.l1_coefficient * state.ramp(self.config.sparsity_warmup_steps, share=0.1)
        active_NL = acts_NL.detach() > 0
        l0 = active_NL.sum() / len(x_ND)
        loss = sse / state.target_norm**2 + coefficient * l1
        return TrainingStep(loss, sse.detach(), l0, active_NL.any(dim=0), {"l1": l1.detach()})
