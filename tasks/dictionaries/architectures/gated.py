"""Gated: one half decides which latents are active, the other how strongly (Rajamanoharan et al. 2024,
arXiv 2404.16014).

Legend: N tokens, D d_in, E d_out, L d_sae.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from tasks.dictionaries.active_pairs import active_pairs
from tasks.dictionaries.base import ARCHITECTURES, Dictionary, GradientTraits
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.gradient_config import GradientConfig
from tasks.dictionaries.saelens_form import SaelensForm
from tasks.dictionaries.sparse_codes import Pairs, selected_pre_acts
from tasks.dictionaries.training_state import TrainingState, TrainingStep
from tasks.dictionaries.widths import Widths


class GatedConfig(GradientConfig):
    """A Gated dictionary; ``l1_coefficient`` trades reconstruction for sparsity."""

    example: ClassVar[dict[str, Any]] = {"l1_coefficient": 0.7}

    architecture: Literal["gated"] = "gated"
    l1_coefficient: float = Field(gt=0)
    """Coefficient of the summed gate pre-activations, stated for inputs of unit mean norm."""
    sparsity_warmup_steps: int = Field(default=2000, ge=0)
    """Steps in which that coefficient rises linearly, at most a tenth of the training."""
    beta1: float = Field(default=0.0, ge=0, lt=1)
    """Adam's decay of the first moment; 0 as in the paper."""
    beta2: float | None = Field(default=None, ge=0, lt=1)
    """Adam's decay of the second moment; default: by the length of the training."""

    def sparsity_tag(self) -> str:
        return f"l{self.l1_coefficient:g}"


@dataclass(frozen=True)
class _Terms:
    """The terms of the loss."""

    recon: Tensor
    """Weighted sum of directions: (N, E)."""
    gate_recon: Tensor
    """The same with the open gates as activations and frozen directions: (N, E)."""
    gate_sum: Tensor
    """Sum of all open gates (scalar)."""
    n_active: Tensor
    """Active pairs (scalar)."""
    fired: Tensor
    """Which latents were active: (L,) bool."""


@ARCHITECTURES.register("gated")
class Gated(Dictionary):
    """``1[gate > 0] * relu(exp(r_mag) * z + b_mag)`` with ``z = (x - b_dec) W_enc`` and ``gate = z + b_enc``.

    L1 applies only to the gate, so activations do not shrink. ``b_enc`` is the bias of the gate.
    """

    purpose = "decides in one half which latents are active and in the other how strongly"
    config: GatedConfig
    gradient = GradientTraits(exact_decoder_gradient=False)

    def __init__(self, config: DictionaryConfig, widths: Widths) -> None:
        super().__init__(config, widths)
        self.r_mag = nn.Parameter(torch.zeros(self.d_sae))
        self.b_mag = nn.Parameter(torch.zeros(self.d_sae))

    def saelens(self) -> SaelensForm:
        """Gated, with another name for the bias of the gate."""
        return SaelensForm("gated", renamed={"b_enc": "b_gate"})

    def encode(self, x_ND: Tensor) -> Tensor:
        """Latent activations (N, L)."""
        gate_NL = self.pre_acts(x_ND)
        return self._strength(gate_NL, self.b_enc, self.r_mag, self.b_mag) * (gate_NL > 0)

    @staticmethod
    def _strength(gate: Tensor, b_enc: Tensor, r_mag: Tensor, b_mag: Tensor) -> Tensor:
        """The strength of latents if their gate is open."""
        return torch.addcmul(b_mag, gate - b_enc, r_mag.exp()).relu()

    def training_loss(self, x_ND: Tensor, y_NE: Tensor, state: TrainingState) -> TrainingStep:
        """Squared error, plus L1 of the open gates, plus the squared error of the gates as activations.

        The gate has no gradient in the first term. It learns from the third one, in which the decoder is
        frozen.
        Units: squared errors over the squared mean norm, L1 over the mean norm.
        """
        centred_ND = self.centred(x_ND)
        found = active_pairs(centred_ND.detach(), self.W_enc, self.b_enc)
        terms = self._on_all(centred_ND) if found is None else self._on_pairs(centred_ND.detach(), *found)
        sse = (y_NE - self.add_offset(terms.recon, x_ND)).square().sum(dim=1).mean()
        gate_sse = (y_NE - terms.gate_recon - self.b_dec.detach()).square().sum(dim=1).mean()
        l1 = terms.gate_sum / (len(x_ND) * state.mean_norm)
        coefficient = self.config.l1_coefficient * state.ramp(self.config.sparsity_warmup_steps, share=0.1)
        gate_loss = gate_sse / state.target_norm**2
        loss = sse / state.target_norm**2 + coefficient * l1 + gate_loss
        parts = {"l1": l1.detach(), "gate_loss": gate_loss.detach()}
        return TrainingStep(loss, sse.detach(), terms.n_active / len(x_ND), terms.fired, parts)

    def _on_all(self, centred_ND: Tensor) -> _Terms:
        """By dense codes."""
        gate_NL = torch.addmm(self.b_enc, centred_ND, self.W_enc)
        open_NL = gate_NL.relu()
        acts_NL = self._strength(gate_NL, self.b_enc, self.r_mag, self.b_mag) * (gate_NL > 0)
        active_NL = acts_NL.detach() > 0
        frozen_NE = open_NL @ self.W_dec.detach()
        return _Terms(acts_NL @ self.W_dec, frozen_NE, open_NL.sum(), active_NL.sum(), active_NL.any(dim=0))

    def _on_pairs(self, centred_ND: Tensor, pairs: Pairs, gate_P: Tensor) -> _Terms:
        """By the pairs with an open gate; the same gradients."""
        gate_P = selected_pre_acts(centred_ND, self.W_enc, self.b_enc, self.centre(), gate_P, pairs)
        of_latent = (self.b_enc, self.r_mag, self.b_mag)
        acts_P = self._strength(gate_P, *(values.index_select(0, pairs.latents) for values in of_latent))
        frozen_NE = pairs.decode(gate_P, self.W_dec.detach())
        kept_P = acts_P.detach()
        recon_NE = pairs.decode(acts_P, self.W_dec)
        return _Terms(recon_NE, frozen_NE, gate_P.sum(), (kept_P > 0).sum(), pairs.fired(kept_P))

    def scaled_with_output(self) -> tuple[str, ...]:
        """Biases, including that of the strength; ``r_mag`` is a ratio."""
        return (*super().scaled_with_output(), "b_mag")
