"""ReLU with an L1 penalty (Bricken et al. 2023; Cunningham et al. 2023, arXiv 2309.08600)."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from tasks.dictionaries.base import ARCHITECTURES, Dictionary, GradientTraits
from tasks.dictionaries.families.relu_loss import Coefficients, rectified
from tasks.dictionaries.gradient_config import GradientConfig
from tasks.dictionaries.saelens_form import SaelensForm
from tasks.dictionaries.training_state import TrainingState, TrainingStep


class ReluL1Config(GradientConfig):
    """A ReLU dictionary; ``l1_coefficient`` trades reconstruction for sparsity."""

    example: ClassVar[dict[str, Any]] = {"l1_coefficient": 0.3}

    architecture: Literal["relu_l1"] = "relu_l1"
    l1_coefficient: float = Field(gt=0)
    """Coefficient of the summed activations, stated for inputs of unit mean norm."""
    free_norms: bool = False
    """True: directions have any norm, each activation costs the norm of its direction, and b_dec is not
    subtracted from the input (Anthropic's update of April 2024). The training ends with unit norms."""
    sparsity_warmup_steps: int = Field(default=2000, ge=0)
    """Steps in which that coefficient rises linearly, at most a tenth of the training."""
    beta2: float | None = Field(default=None, ge=0, lt=1)
    """Adam's decay of the second moment; default: by the length of the training."""

    def sparsity_tag(self) -> str:
        return f"l{self.l1_coefficient:g}" + ("-free" if self.free_norms else "")


@ARCHITECTURES.register("relu_l1")
class ReluL1(Dictionary):
    """``relu(W_enc (x - b_dec) + b_enc)``; L1 shrinks the activations, see the metric ``shrinkage``."""

    purpose = "encodes by ReLU with an L1 penalty"
    gradient = GradientTraits(can_resample=True)
    config: ReluL1Config

    def saelens(self) -> SaelensForm | None:
        """The standard architecture."""
        return SaelensForm("standard")

    def centre(self) -> Tensor | None:
        """None with free norms: that form subtracts nothing from the input."""
        return None if self.config.free_norms else super().centre()

    def encode(self, x_ND: Tensor) -> Tensor:
        """Latent activations (N, L)."""
        return self.pre_acts(x_ND).relu()

    def training_loss(self, x_ND: Tensor, y_NE: Tensor, state: TrainingState) -> TrainingStep:
        """Mean of ``sum_D e^2 / norm^2 + l1_coefficient * sum_L f c / norm``, norm: mean input norm.

        The cost c of a latent is 1, or the norm of its direction with free norms.
        """
        cost_L = self.W_dec.norm(dim=1) if self.config.free_norms else torch.ones_like(self.b_enc)
        ramp = state.ramp(self.config.sparsity_warmup_steps, share=0.1)
        coefficients = Coefficients(
            1 / state.target_norm**2, self.config.l1_coefficient * ramp / state.mean_norm
        )
        result = rectified(self, x_ND, y_NE, torch.zeros_like(self.b_enc), cost_L, coefficients)
        parts = {"l1": result.cost / state.mean_norm}
        return TrainingStep(result.objective, result.sse, result.l0, result.fired, parts)

    def project_decoder_gradient(self) -> None:
        """No projection with free norms: the norms are trained too."""
        if not self.config.free_norms:
            super().project_decoder_gradient()

    def normalise_decoder(self) -> None:
        """No normalisation with free norms."""
        if not self.config.free_norms:
            super().normalise_decoder()

    @torch.no_grad()
    def after_training(self, sample_ND: Tensor) -> dict[str, float]:
        """Give free directions unit norm and move their norms into the encoder; the output stays the same."""
        if self.config.free_norms:
            norms_L = self.W_dec.norm(dim=1).clamp_min(1e-12)
            self.W_dec.div_(norms_L.unsqueeze(1))
            self.W_enc.mul_(norms_L)
            self.b_enc.mul_(norms_L)
        return super().after_training(sample_ND)
