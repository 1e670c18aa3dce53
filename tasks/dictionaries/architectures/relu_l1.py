"""ReLU with an L1 penalty (Bricken et al. 2023; Cunningham et al. 2023, arXiv 2309.08600)."""

from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from tasks.dictionaries.base import ARCHITECTURES, Dictionary, TrainingState, TrainingStep
from tasks.dictionaries.config import DictionaryConfig


class ReluL1Config(DictionaryConfig):
    """A ReLU dictionary; ``l1_coefficient`` trades reconstruction for sparsity."""

    example: ClassVar[dict[str, Any]] = {"l1_coefficient": 0.3}

    architecture: Literal["relu_l1"] = "relu_l1"
    l1_coefficient: float = Field(gt=0)
    """Weight of the summed activations, stated for inputs of unit mean norm."""
    sparsity_warmup_steps: int = Field(default=2000, ge=0)
    """Steps in which that weight rises linearly, at most a tenth of the training."""
    lr: float | None = Field(default=1e-3, gt=0)
    """Learning rate of Adam."""

    def sparsity_tag(self) -> str:
        return f"l{self.l1_coefficient:g}"


@ARCHITECTURES.register("relu_l1")
class ReluL1(Dictionary):
    """``relu(W_enc (x - b_dec) + b_enc)``; L1 shrinks the activations, see the metric ``shrinkage``."""

    Config: ClassVar[type[DictionaryConfig]] = ReluL1Config
    can_resample: ClassVar[bool] = True
    config: ReluL1Config

    def encode(self, x_ND: Tensor) -> Tensor:
        """Latent activations (N, L)."""
        return self.pre_acts(x_ND).relu()

    def training_loss(self, x_ND: Tensor, y_NE: Tensor, state: TrainingState) -> TrainingStep:
        """Mean of ``sum_D e^2 / norm^2 + l1_coefficient * sum_L f / norm``, norm: mean input norm."""
        acts_NL = self.encode(x_ND)
        sse = (y_NE - self.decode(acts_NL, x_ND)).square().sum(dim=1).mean()
        l1 = acts_NL.sum(dim=1).mean() / state.mean_norm
        weight = self.config.l1_coefficient * state.ramp(self.config.sparsity_warmup_steps, share=0.1)
        active_NL = acts_NL.detach() > 0
        l0 = active_NL.sum() / len(x_ND)
        loss = sse / state.target_norm**2 + weight * l1
        return TrainingStep(loss, sse.detach(), l0, active_NL.any(dim=0), {"l1": l1.detach()})
