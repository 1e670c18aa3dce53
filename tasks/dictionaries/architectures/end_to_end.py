"""End-to-end objective: preserve the predictions of the language model (arXiv 2405.12241)."""

from typing import Any, ClassVar, Literal, NoReturn

from pydantic import Field
from torch import Tensor

from tasks.dictionaries.base import ARCHITECTURES, Dictionary, HowTrained
from tasks.dictionaries.gradient_config import GradientConfig
from tasks.dictionaries.training_state import TrainingState


class EndToEndConfig(GradientConfig):
    """A ReLU dictionary trained with the language model in the loop; its FVU does not measure its quality."""

    example: ClassVar[dict[str, Any]] = {"l1_coefficient": 0.3}

    architecture: Literal["end_to_end"] = "end_to_end"
    objective: Literal["e2e"] = "e2e"
    """Marks the dictionary, so that comparisons of FVU can exclude it."""
    l1_coefficient: float = Field(gt=0)
    """Coefficient of the summed activations over d_in, stated for inputs of mean norm sqrt(d_in)."""
    downstream_coefficient: float = Field(default=0.0, ge=0)
    """Coefficient of the mean unexplained share of the residual stream after each later block; 0: off."""
    sparsity_warmup_steps: int = Field(default=2000, ge=0)
    """Steps in which the coefficient of the activations rises linearly, at most a tenth of the training."""

    def sparsity_tag(self) -> str:
        downstream = f"-d{self.downstream_coefficient:g}" if self.downstream_coefficient else ""
        return f"l{self.l1_coefficient:g}{downstream}"


@ARCHITECTURES.register("end_to_end")
class EndToEnd(Dictionary):
    """``relu(W_enc (x - b_dec) + b_enc)``, trained by `tasks.training.end_to_end_run`."""

    purpose = "is trained with the language model in the loop, so that its predictions survive"
    how_trained: ClassVar[HowTrained] = "end_to_end"
    config: EndToEndConfig

    def encode(self, x_ND: Tensor) -> Tensor:
        """Latent activations (N, L)."""
        return self.pre_acts(x_ND).relu()

    def training_loss(self, x_ND: Tensor, y_NE: Tensor, state: TrainingState) -> NoReturn:
        """Not a function of only the activations."""
        raise TypeError("end_to_end needs the language model, see EndToEndRun")
