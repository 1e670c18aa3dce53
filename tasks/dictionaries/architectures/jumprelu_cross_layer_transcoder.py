"""Cross-layer transcoder with a learned threshold for every latent (Ameisen et al. 2025, "Circuit Tracing").

Its sparsity is set as for ``jumprelu``. The form of the paper is ``tanh_coefficient``: the penalty is the sum
of ``tanh(c |W_dec| f)``, where ``|W_dec|`` is the norm of all that a latent writes, which is kept at 1.

Legend: N tokens, D d_in, E d_out, L d_sae.
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from tasks.dictionaries.architectures.jumprelu import JumpReLU, JumpReLUConfig
from tasks.dictionaries.base import ARCHITECTURES
from tasks.dictionaries.families.cross_layer_family import CrossLayer, CrossLayerFields
from tasks.dictionaries.families.relu_loss import Coefficients, Rectified
from tasks.dictionaries.families.straight_through import jump, step
from tasks.dictionaries.training_state import TrainingState


class JumpReLUCrossLayerTranscoderConfig(CrossLayerFields, JumpReLUConfig):
    """A JumpReLU cross-layer transcoder; its sparsity is that of all layers together."""

    example: ClassVar[dict[str, Any]] = {
        "tanh_coefficient": 0.05,
        "tanh_steepness": 1.0,
        "shortfall_coefficient": 0.1,
        "bandwidth": 0.1,
        "lr": 1e-2,
        "reads": ["blocks.1.mlp_in", "blocks.2.mlp_in"],
        "writes": ["blocks.1.mlp_out", "blocks.2.mlp_out"],
    }

    architecture: Literal["jumprelu_cross_layer_transcoder"] = "jumprelu_cross_layer_transcoder"  # type: ignore[assignment]
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Adam's decay of the first moment; 0, the default of jumprelu, finds fewer latents of several layers."""
    beta2: float | None = Field(default=None, ge=0, lt=1)
    """Adam's decay of the second moment; default: by the length of the training."""


@ARCHITECTURES.register("jumprelu_cross_layer_transcoder")
class JumpReLUCrossLayerTranscoder(CrossLayer, JumpReLU):
    """``z * (z > threshold)`` with ``z = x^m W_enc^m + b_enc^m`` of the latent's own layer."""

    purpose = "is a `cross_layer_transcoder` with a threshold for every latent"
    config: JumpReLUCrossLayerTranscoderConfig

    @torch.no_grad()
    def before_training(self, state: TrainingState) -> None:
        """Let every latent start with a pre-activation of mean zero."""
        super().before_training(state)
        if state.input_mean is not None:
            self.b_enc.sub_(self.pre_acts(state.input_mean.unsqueeze(0))[0])

    def rectified(self, x_ND: Tensor, y_NE: Tensor, coefficients: Coefficients) -> Rectified:
        """The results of a batch; each latent reads its own layer, so codes are computed layer by layer."""
        z_NL = self.pre_acts(x_ND)
        acts_NL = jump(z_NL, self.threshold, coefficients.bandwidth)
        sse = (y_NE - self.decode(acts_NL, x_ND)).square().sum(dim=1).mean()
        costly_NL = torch.tanh(coefficients.steepness * acts_NL) if coefficients.steepness else acts_NL
        cost = costly_NL.sum(dim=1).mean()
        l0 = step(z_NL, self.threshold, coefficients.bandwidth).sum(dim=1).mean()
        fired_L = (acts_NL.detach() > 0).any(dim=0)
        return Rectified(
            coefficients.sse * sse + coefficients.cost * cost, l0, sse.detach(), cost.detach(), fired_L
        )

    def shortfall(self, x_ND: Tensor, chosen_L: Tensor) -> Tensor:
        """The shortfall of the selected latents to their thresholds: ``mean_N sum relu(threshold - z)``."""
        return (self.threshold - self.pre_acts(x_ND)).relu()[:, chosen_L].sum(dim=1).mean()

    @torch.no_grad()
    def fold_scale(self, scale_in_D: Tensor, scale_out_E: Tensor) -> None:
        """As for all that write several hookpoints; thresholds go with the activations."""
        norms_L = (self.W_dec / scale_out_E).norm(dim=1).clamp_min(1e-12)
        super().fold_scale(scale_in_D, scale_out_E)
        self.threshold.mul_(norms_L)
