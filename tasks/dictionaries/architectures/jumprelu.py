"""JumpReLU: a learned threshold for every latent (Rajamanoharan et al. 2024, arXiv 2407.14435).

Sparsity is set as a mean number of active latents, as a price on that number, or as a price on the tanh of
activations (Anthropic, Circuits Updates of January 2025; the form of SAELens for dead latents).
"""

from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from tasks.dictionaries.base import ARCHITECTURES, Dictionary
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.families.pre_activation_loss import shortfall
from tasks.dictionaries.families.relu_loss import Coefficients, Rectified, rectified
from tasks.dictionaries.gradient_config import GradientConfig
from tasks.dictionaries.saelens_form import THRESHOLDS, SaelensForm
from tasks.dictionaries.training_state import TrainingState, TrainingStep
from tasks.dictionaries.widths import Widths


class JumpReLUConfig(GradientConfig):
    """A JumpReLU dictionary; give one of ``target_l0``, ``l0_coefficient`` and ``tanh_coefficient``."""

    example: ClassVar[dict[str, Any]] = {"target_l0": 2.0}

    architecture: Literal["jumprelu"] = "jumprelu"
    target_l0: float | None = Field(default=None, gt=0)
    """Mean number of active latents to aim at: the penalty is (L0 / target - 1)^2 times target_weight."""
    l0_coefficient: float | None = Field(default=None, gt=0)
    """Coefficient of L0 itself, stated for inputs of unit mean norm (the form of the paper)."""
    target_weight: float = Field(default=1.0, gt=0)
    """Coefficient of the penalty for missing target_l0."""
    tanh_coefficient: float | None = Field(default=None, gt=0)
    """Coefficient of the summed tanh of activations; a latent far above 0 costs as much as with
    l0_coefficient."""
    tanh_steepness: float = Field(default=4.0, gt=0)
    """Factor on activations inside the tanh, stated for inputs of mean norm sqrt(d_in)."""
    shortfall_coefficient: float | None = Field(default=None, ge=0)
    """Coefficient of the shortfall of dead latents; default: 3e-6 with tanh_coefficient, else 0."""
    sparsity_warmup_steps: int = Field(default=2000, ge=0)
    """Steps in which the penalty rises linearly, at most a tenth of the training."""
    initial_threshold: float = Field(default=0.01, gt=0)
    """Initial value of the thresholds, in units of the mean input norm."""
    bandwidth: float = Field(default=0.01, gt=0)
    """Width of the window in which thresholds get a gradient, in units of the mean input norm."""
    beta1: float = Field(default=0.0, ge=0, lt=1)
    """Adam's decay of the first moment; 0 because the gradient of thresholds is noisy."""
    beta2: float | None = Field(default=None, ge=0, lt=1)
    """Adam's decay of the second moment; default: by the length of the training."""

    @model_validator(mode="after")
    def _one_aim(self) -> Self:
        if [self.target_l0, self.l0_coefficient, self.tanh_coefficient].count(None) != 2:
            raise ValueError("give exactly one of target_l0, l0_coefficient and tanh_coefficient")
        return self

    @property
    def shortfall_weight(self) -> float:
        """``shortfall_coefficient``, or its default."""
        if self.shortfall_coefficient is not None:
            return self.shortfall_coefficient
        return 0.0 if self.tanh_coefficient is None else 3e-6

    def sparsity_tag(self) -> str:
        if self.tanh_coefficient is not None:
            return f"tanh{self.tanh_coefficient:g}"
        return f"t{self.target_l0:g}" if self.target_l0 else f"l{self.l0_coefficient:g}"


@ARCHITECTURES.register("jumprelu")
class JumpReLU(Dictionary):
    """``z * (z > threshold)`` with ``z = W_enc (x - b_dec) + b_enc`` and one threshold per latent."""

    purpose = "keeps pre-activations above a learned threshold of each latent"
    config: JumpReLUConfig

    def __init__(self, config: DictionaryConfig, widths: Widths) -> None:
        super().__init__(config, widths)
        self.threshold = nn.Parameter(torch.full((self.d_sae,), self.config.initial_threshold))

    def saelens(self) -> SaelensForm | None:
        """JumpReLU: each latent fires above a threshold."""
        return THRESHOLDS

    def encode(self, x_ND: Tensor) -> Tensor:
        """Latent activations (N, L): those strictly above their threshold."""
        z_NL = self.pre_acts(x_ND)
        return z_NL * (z_NL > self.threshold)

    @torch.no_grad()
    def before_training(self, state: TrainingState) -> None:
        """Convert the thresholds into the units of the batch."""
        super().before_training(state)
        self.threshold.fill_(self.config.initial_threshold * state.mean_norm)

    def training_loss(self, x_ND: Tensor, y_NE: Tensor, state: TrainingState) -> TrainingStep:
        """Squared error in units of the mean norm of the targets, plus the penalty on activity.

        The penalty rises with `ramp`. The shortfall of dead latents counts from the start, in units of the
        mean norm of the inputs.
        """
        ramp, config = state.ramp(self.config.sparsity_warmup_steps, share=0.1), self.config
        result = self.rectified(x_ND, y_NE, self._coefficients(state, ramp))
        loss = result.objective
        if config.tanh_coefficient is not None:
            penalty = config.tanh_coefficient * result.cost
        elif config.target_l0 is not None:
            penalty = config.target_weight * (result.l0 / config.target_l0 - 1).square()
            loss = loss + ramp * penalty
        else:
            assert config.l0_coefficient is not None
            penalty = config.l0_coefficient * result.l0
            loss = loss + ramp * penalty
        parts = {"penalty": penalty.detach()}
        if config.shortfall_weight > 0:
            lacking = self.shortfall(x_ND, state.dead) / state.mean_norm
            loss, parts["shortfall"] = loss + config.shortfall_weight * lacking, lacking.detach()
        return TrainingStep(loss, result.sse, result.l0.detach(), result.fired, parts)

    def rectified(self, x_ND: Tensor, y_NE: Tensor, coefficients: Coefficients) -> Rectified:
        """Hook: encode, decode and measure one batch, see `families.relu_loss`."""
        return rectified(self, x_ND, y_NE, self.threshold, torch.ones_like(self.b_enc), coefficients)

    def shortfall(self, x_ND: Tensor, chosen_L: Tensor) -> Tensor:
        """Hook: the shortfall of the selected latents to their thresholds, see `pre_activation_loss`."""
        return shortfall(self, x_ND, self.threshold, chosen_L)

    def _coefficients(self, state: TrainingState, ramp: float) -> Coefficients:
        config = self.config
        coefficients = Coefficients(1 / state.target_norm**2, bandwidth=config.bandwidth * state.mean_norm)
        if config.tanh_coefficient is None:
            return coefficients
        steepness = config.tanh_steepness * self.d_in**0.5 / state.mean_norm
        return replace(coefficients, cost=ramp * config.tanh_coefficient, steepness=steepness)

    @torch.no_grad()
    def after_step(self, state: TrainingState) -> None:
        """Thresholds never fall below zero."""
        self.threshold.clamp_(min=0)

    def scaled_with_output(self) -> tuple[str, ...]:
        """Biases and thresholds."""
        return (*super().scaled_with_output(), "threshold")
