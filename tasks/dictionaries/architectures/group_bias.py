"""Group Bias Adaptation: biases move until latents fire as often as their group should (arXiv 2506.14002).

Legend: N tokens, D d_in, E d_out, L d_sae, P pairs, G groups.
"""

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from catalog.errors import UserError
from tasks.dictionaries.active_pairs import active_pairs
from tasks.dictionaries.base import ARCHITECTURES, GradientTraits
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.families.tied import TiedDictionary
from tasks.dictionaries.gradient_config import GradientConfig
from tasks.dictionaries.sparse_codes import Pairs, selected_pre_acts
from tasks.dictionaries.training_state import TrainingState, TrainingStep
from tasks.dictionaries.widths import Widths

_SMALLEST_STEP, _LARGEST_STEP = 0.01, 0.2
_FALLS = 6
"""Steps of all windows together, so that after a third of them exp(-2) of the distance is left."""
_SEEN = ("fired", "largest", "tokens")
"""Counts of a step and of a window, in the memory of a training."""


class GroupBiasConfig(GradientConfig):
    """A dictionary trained by Group Bias Adaptation; the frequencies of its groups decide the sparsity."""

    example: ClassVar[dict[str, Any]] = {"highest_frequency": 0.12, "n_groups": 2}

    architecture: Literal["group_bias_adaptation"] = "group_bias_adaptation"
    highest_frequency: float = Field(gt=0, le=1)
    """Largest share of tokens on which a latent of the first group fires; half as often for the next."""
    frequency_ratio: float = Field(default=0.5, gt=0, le=1)
    """Frequency of a group over that of the group before it."""
    n_groups: int = Field(default=10, ge=1)
    """Groups of equal size into which the latents are divided."""
    activation: Literal["relu", "jumprelu"] = "jumprelu"
    """relu subtracts the bias from the strength of a latent, jumprelu only checks whether it is exceeded."""
    window_tokens: int | None = Field(default=None, ge=1)
    """Tokens over which frequencies are counted; default: ten firings of the rarest group, within limits."""
    lower_by: float | None = Field(default=None, gt=0, le=1)
    """Step of the bias of a latent that fires too often, as a share of its largest pre-activation; default:
    0.01, up to 0.2 in trainings of fewer than 600 windows, in which biases would not come down in time."""
    raise_by: float | None = Field(default=None, gt=0, le=1)
    """Step of the bias of an idle latent, as a share of the mean largest pre-activation of its group;
    default: as lower_by."""
    idle_below: float = Field(default=1e-6, ge=0, lt=1)
    """A latent that fires on a smaller share of the window is idle."""
    beta2: float | None = Field(default=None, ge=0, lt=1)
    """Adam's decay of the second moment; default: by the length of the training."""

    def frequencies(self) -> list[float]:
        """The target of each group, the most frequent first."""
        return [self.highest_frequency * self.frequency_ratio**group for group in range(self.n_groups)]

    def counted_tokens(self) -> int:
        """Tokens of a window."""
        ten_firings = math.ceil(10 / self.frequencies()[-1])
        return self.window_tokens or max(min(ten_firings, self.n_tokens // 400), 1)

    def bias_steps(self) -> tuple[float, float]:
        """``lower_by`` and ``raise_by``, as given, or such that biases settle after a third of the training.

        The remaining distance of a bias shrinks by at most the factor ``1 - lower_by`` in each window.
        """
        steps_per_window = math.ceil(self.counted_tokens() / self.batch_tokens)
        usual = min(max(_FALLS * steps_per_window / self.n_steps, _SMALLEST_STEP), _LARGEST_STEP)
        lower_by = self.lower_by or usual
        return lower_by, self.raise_by or lower_by

    def sparsity_tag(self) -> str:
        return f"p{self.highest_frequency:g}"

    def check_width(self, d_in: int) -> None:
        super().check_width(d_in)
        if self.n_groups > self.n_latents(d_in):
            raise UserError(
                f"dictionary {self.name()!r}: {self.n_latents(d_in)} latents cannot be divided into "
                f"{self.n_groups} groups; choose fewer n_groups or a larger expansion_factor"
            )


@ARCHITECTURES.register("group_bias_adaptation")
class GroupBias(TiedDictionary):
    """``amplitude * phi(y)`` with ``y = (x - b_dec) W_dec^T``; only reconstruction is minimised.

    phi is ``relu(y + b)`` or ``y * 1[y + b > 0]``. The biases ``b_enc`` get no gradient. After each window
    they fall for latents that fired more often than their group should, and rise for idle ones. They stay
    between minus the mean norm of the inputs and 0.
    """

    purpose = "moves biases until the latents of a group fire as often as they should"
    config: GroupBiasConfig
    gradient = GradientTraits(joined={"step_fired": "sum", "step_largest": "max", "step_tokens": "sum"})
    groups: Tensor

    def __init__(self, config: DictionaryConfig, widths: Widths) -> None:
        super().__init__(config, widths)
        self.b_enc.requires_grad_(False)
        self.amplitude = nn.Parameter(torch.ones(self.d_sae))
        groups = torch.arange(self.d_sae) * self.config.n_groups // self.d_sae
        self.register_buffer("groups", groups, persistent=False)

    def encode(self, x_ND: Tensor) -> Tensor:
        """Latent activations (N, L)."""
        pre_NL = self.pre_acts(x_ND)
        return self._strength(pre_NL, self.b_enc, self.amplitude) * (pre_NL > 0)

    def _strength(self, pre: Tensor, b_enc: Tensor, amplitude: Tensor) -> Tensor:
        """Activation of latents with a positive pre-activation."""
        return amplitude * (pre if self.config.activation == "relu" else pre - b_enc)

    def training_loss(self, x_ND: Tensor, y_NE: Tensor, state: TrainingState) -> TrainingStep:
        """Squared error over the variance of the data; records which latents fired and how strongly."""
        centred_ND = self.centred(x_ND)
        found = active_pairs(centred_ND.detach(), self.W_dec.T, self.b_enc)
        if found is None:
            summed_NE, counts_L, largest_L = self._on_all(centred_ND)
        else:
            summed_NE, counts_L, largest_L = self._on_pairs(centred_ND.detach(), *found)
        self.observe(counts_L, largest_L, len(x_ND), state)
        sse = (y_NE - self.add_offset(summed_NE, x_ND)).square().sum(dim=1).mean()
        l0, fired_L = counts_L.sum() / len(x_ND), counts_L > 0
        return TrainingStep(sse / state.total_variance, sse.detach(), l0, fired_L)

    def _on_all(self, centred_ND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sum of directions (N, E), firings and largest pre-activation of each latent: by dense codes."""
        pre_NL = torch.addmm(self.b_enc, centred_ND, self.W_dec.T)
        active_NL = pre_NL > 0
        acts_NL = self._strength(pre_NL, self.b_enc, self.amplitude) * active_NL
        return acts_NL @ self.W_dec, active_NL.sum(dim=0), pre_NL.detach().amax(dim=0)

    def _on_pairs(self, centred_ND: Tensor, pairs: Pairs, pre_P: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same by the active pairs; the largest value of a latent that never fires is 0."""
        largest_L = pre_P.new_zeros(self.d_sae).scatter_reduce(0, pairs.latents, pre_P, "amax")
        pre_P = selected_pre_acts(centred_ND, self.W_dec.T, self.b_enc, self.centre(), pre_P, pairs)
        of_latent = (values.index_select(0, pairs.latents) for values in (self.b_enc, self.amplitude))
        acts_P = self._strength(pre_P, *of_latent)
        counts_L = torch.bincount(pairs.latents, minlength=self.d_sae)
        return pairs.decode(acts_P, self.W_dec), counts_L, largest_L

    @torch.no_grad()
    def observe(self, counts_L: Tensor, largest_L: Tensor, n_tokens: int, state: TrainingState) -> None:
        """Add a part of a batch to the step: firings and largest pre-activation of each latent, tokens."""
        seen = torch.tensor(n_tokens, device=counts_L.device)
        self._gather("step", (counts_L, largest_L.float(), seen), state.memory)

    @torch.no_grad()
    def after_step(self, state: TrainingState) -> None:
        """Keep amplitudes above zero; at the end of a window move the biases and start a new window."""
        super().after_step(state)
        self.amplitude.clamp_(min=0)
        self._gather("window", self._taken("step", state.memory), state.memory)
        if int(state.memory["window_tokens"]) >= self.config.counted_tokens():
            fired_L, largest_L, n_tokens = self._taken("window", state.memory)
            self.adapt(fired_L / n_tokens, largest_L, state)

    @staticmethod
    def _gather(period: str, seen: tuple[Tensor, Tensor, Tensor], memory: dict[str, Tensor]) -> None:
        """Add firings, largest pre-activations and tokens to those of a period."""
        fired_L, largest_L, n_tokens = seen
        if f"{period}_tokens" in memory:
            fired_L = fired_L + memory[f"{period}_fired"]
            largest_L = torch.maximum(largest_L, memory[f"{period}_largest"])
            n_tokens = n_tokens + memory[f"{period}_tokens"]
        names = (f"{period}_{what}" for what in _SEEN)
        memory.update(zip(names, (fired_L, largest_L, n_tokens), strict=True))

    @staticmethod
    def _taken(period: str, memory: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Firings, largest pre-activations and tokens of a finished period."""
        fired_L, largest_L, n_tokens = (memory.pop(f"{period}_{what}") for what in _SEEN)
        return fired_L, largest_L, n_tokens

    @torch.no_grad()
    def adapt(self, frequency_L: Tensor, largest_L: Tensor, state: TrainingState) -> None:
        """Move the biases by the frequencies and largest pre-activations of a window.

        Too frequent: ``b <- max(b - lower_by * largest, -mean_norm)``. Idle: ``b <- min(b + raise_by * T,
        0)`` with T the mean of ``largest`` over the latents of the group that fired, else over all that did.
        """
        target_L = torch.tensor(self.config.frequencies(), device=frequency_L.device)[self.groups]
        largest_L, (lower_by, raise_by) = largest_L.clamp_min(0), self.config.bias_steps()
        lowered_L = (self.b_enc - lower_by * largest_L).clamp_min(-state.mean_norm)
        raised_L = (self.b_enc + raise_by * self._typical(largest_L)).clamp_max(0)
        moved_L = torch.where(frequency_L > target_L, lowered_L, self.b_enc)
        self.b_enc.copy_(torch.where(frequency_L < self.config.idle_below, raised_L, moved_L))

    def _typical(self, largest_L: Tensor) -> Tensor:
        """Mean over the latents of the same group with a positive value, else over all such latents: (L,)."""
        sums_G = largest_L.new_zeros(self.config.n_groups).index_add_(0, self.groups, largest_L)
        live_L = (largest_L > 0).to(largest_L)
        counts_G = largest_L.new_zeros(self.config.n_groups).index_add_(0, self.groups, live_L)
        overall = largest_L.sum() / live_L.sum().clamp_min(1)
        return torch.where(counts_G > 0, sums_G / counts_G.clamp_min(1), overall)[self.groups]

    def feature_columns(self) -> dict[str, list[Any]]:
        """The group of each latent; its threshold if it has one."""
        columns = {**super().feature_columns(), "feature_group": self.groups.tolist()}
        if self.config.activation == "jumprelu":
            columns["threshold"] = (-self.amplitude * self.b_enc).detach().float().tolist()
        return columns
