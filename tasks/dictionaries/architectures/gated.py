"""Gated: one half decides which latents are active, the other how strongly (Rajamanoharan et al. 2024,
arXiv 2404.16014).

Legend: N tokens, D d_in, E d_out, L d_sae.
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from tasks.dictionaries.base import ARCHITECTURES, Dictionary, TrainingState, TrainingStep, Widths
from tasks.dictionaries.config import DictionaryConfig


class GatedConfig(DictionaryConfig):
    """A Gated dictionary; ``l1_coefficient`` trades reconstruction for sparsity."""

    example: ClassVar[dict[str, Any]] = {"l1_coefficient": 0.7}

    architecture: Literal["gated"] = "gated"
    l1_coefficient: float = Field(gt=0)
    """Weight of the summed gate pre-activations, stated for inputs of unit mean norm."""
    sparsity_warmup_steps: int = Field(default=2000, ge=0)
    """Steps in which that weight rises linearly, at most a tenth of the training."""
    beta1: float = Field(default=0.0, ge=0, lt=1)
    """Adam's decay of the first moment; 0 as in the paper."""

    def sparsity_tag(self) -> str:
        return f"l{self.l1_coefficient:g}"


@ARCHITECTURES.register("gated")
class Gated(Dictionary):
    """``1[gate > 0] * relu(exp(r_mag) * z + b_mag)`` with ``z = (x - b_dec) W_enc`` and ``gate = z + b_enc``.

    L1 acts on the gate alone, so that activations do not shrink. ``b_enc`` is the bias of the gate.
    """

    Config: ClassVar[type[DictionaryConfig]] = GatedConfig
    config: GatedConfig
    exact_decoder_gradient = False

    def __init__(self, config: DictionaryConfig, widths: Widths) -> None:
        super().__init__(config, widths)
        self.r_mag = nn.Parameter(torch.zeros(self.d_sae))
        self.b_mag = nn.Parameter(torch.zeros(self.d_sae))

    def encode(self, x_ND: Tensor) -> Tensor:
        """Latent activations (N, L)."""
        return self._gated(x_ND)[1]

    def _gated(self, x_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Pre-activations of the gate and latent activations, both (N, L)."""
        z_NL = self.centred(x_ND) @ self.W_enc
        gate_NL = z_NL + self.b_enc
        strength_NL = torch.addcmul(self.b_mag, z_NL, self.r_mag.exp()).relu()
        return gate_NL, strength_NL * (gate_NL > 0)

    def training_loss(self, x_ND: Tensor, y_NE: Tensor, state: TrainingState) -> TrainingStep:
        """Squared error, plus L1 of the open gates, plus the squared error of the gates as activations.

        The gate has no gradient in the first term. It learns from the third, in which the decoder is
        frozen. Units: squared errors over the squared mean norm, L1 over the mean norm.
        """
        gate_NL, acts_NL = self._gated(x_ND)
        open_NL = gate_NL.relu()
        sse = (y_NE - self.decode(acts_NL, x_ND)).square().sum(dim=1).mean()
        frozen_NE = open_NL @ self.W_dec.detach() + self.b_dec.detach()
        aux_sse = (y_NE - frozen_NE).square().sum(dim=1).mean()
        l1 = open_NL.sum(dim=1).mean() / state.mean_norm
        weight = self.config.l1_coefficient * state.ramp(self.config.sparsity_warmup_steps, share=0.1)
        gate_loss = aux_sse / state.target_norm**2
        loss = sse / state.target_norm**2 + weight * l1 + gate_loss
        active_NL = acts_NL.detach() > 0
        parts = {"l1": l1.detach(), "gate_loss": gate_loss.detach()}
        return TrainingStep(loss, sse.detach(), active_NL.sum() / len(x_ND), active_NL.any(dim=0), parts)

    def scaled_with_output(self) -> tuple[str, ...]:
        """Biases, that of the strength among them; ``r_mag`` is a ratio."""
        return (*super().scaled_with_output(), "b_mag")
