"""The smallest architecture that is trained by gradient steps: ReLU and the squared error."""

from typing import Literal

from torch import Tensor

from tasks.dictionaries.base import ARCHITECTURES, Dictionary
from tasks.dictionaries.gradient_config import GradientConfig
from tasks.dictionaries.training_state import TrainingState, TrainingStep


class ToyArchitectureConfig(GradientConfig):
    """No setting of its own."""

    architecture: Literal["toy_architecture"] = "toy_architecture"

    def sparsity_tag(self) -> str:
        return "relu"


@ARCHITECTURES.register("toy_architecture")
class ToyArchitecture(Dictionary):
    """``relu(W_enc (x - b_dec) + b_enc)``."""

    config: ToyArchitectureConfig
    purpose = "encodes by ReLU and minimises the squared error alone"

    def encode(self, x_ND: Tensor) -> Tensor:
        return self.pre_acts(x_ND).relu()

    def training_loss(self, x_ND: Tensor, y_NE: Tensor, state: TrainingState) -> TrainingStep:
        acts_NL = self.encode(x_ND)
        sse = (y_NE - self.decode(acts_NL, x_ND)).square().sum(dim=1).mean()
        active_NL = acts_NL > 0
        return TrainingStep(
            loss=sse / state.total_variance,
            sse=sse,
            l0=active_NL.sum(dim=1).float().mean(),
            fired=active_NL.any(dim=0),
        )
