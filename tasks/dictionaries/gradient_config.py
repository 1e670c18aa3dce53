"""Configuration of the dictionaries that are trained by gradient steps."""

import math
from typing import Any, ClassVar, Literal

from pydantic import Field

from catalog.errors import UserError
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.token_norm import TokenNorm

Normalisation = Literal["dataset_rms", "none"]
BiasStart = Literal["geometric_median", "mean", "zero"]
Decay = Literal["linear", "cosine"]


class GradientConfig(DictionaryConfig):
    """Shared by the architectures that take gradient steps: the data, the optimiser, dead latents."""

    data_seed: int = Field(default=0, ge=0)
    """Seed of the order of the data; dictionaries with the same one can share one pass over the data."""
    init_from: str | None = Field(default=None, min_length=1, max_length=400)
    """Dictionary of the catalogue to start from instead of random weights: alias, id, or last part of an
    alias at the same hookpoints. The optimiser and the schedule start fresh."""
    n_tokens: int = Field(ge=1)
    """Training tokens in total; the activation set is read repeatedly until they are used."""
    batch_tokens: int = Field(default=2048, ge=1)
    """Tokens per optimiser step."""
    micro_batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens to process at a time, their gradients summed; default: the batch, less if memory is short."""
    lr: float | None = Field(default=None, gt=0)
    """Learning rate of Adam; default: the architecture's rule, from the width."""
    warmup_steps: int = Field(default=1000, ge=0)
    """Steps of linear warm-up, at most one twentieth of the training."""
    decay_share: float = Field(default=0.2, ge=0, le=1)
    """Last share of the training in which the learning rate falls to zero."""
    decay: Decay = "linear"
    """How the learning rate falls: linear, or along half a cosine."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Adam's decay of the first moment."""
    beta2: float | None = Field(default=0.999, ge=0, lt=1)
    """Adam's decay of the second moment; null: by the length of the training, 0.999 from 30,000 steps on."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient of all parameters together."""
    normalisation: Normalisation = "dataset_rms"
    """dataset_rms scales inputs to a mean norm of sqrt(d_in) in training and is folded away after it."""
    bias_start: BiasStart = "geometric_median"
    """Initial value of b_dec."""
    token_norm: TokenNorm = "none"
    """Normalisation of each input, for imported dictionaries: none, layer_norm, constant_norm."""
    dead_after_tokens: int | None = Field(default=None, ge=1)
    """Tokens without firing that make a latent dead; default: n_tokens / 20, at most 10 million."""
    resample_every_tokens: int | None = Field(default=None, ge=1)
    """Interval in tokens at which dead latents restart at badly reconstructed tokens."""
    buffer_tokens: int = Field(default=262_144, ge=1)
    """Tokens in the mixing buffer, in which the order is fully random; at most 2^28 values."""
    block_sequences: int = Field(default=8, ge=1)
    """Number of neighbouring sequences to read together."""

    @property
    def input_norm(self) -> TokenNorm:
        """That of the file it was imported from."""
        return self.token_norm

    def name(self) -> str:
        """Readable name, for example topk-x8-k32-s0, with the order of the data where it is not the first."""
        return super().name() + (f"-d{self.data_seed}" if self.data_seed else "")

    @property
    def starts_from(self) -> str | None:
        """``init_from``."""
        return self.init_from

    @property
    def n_steps(self) -> int:
        """Optimiser steps that use ``n_tokens``, the last one rounded up."""
        return math.ceil(self.n_tokens / self.batch_tokens)

    @property
    def dead_tokens(self) -> int:
        """Tokens without firing after which a latent counts as dead."""
        return self.dead_after_tokens or min(max(self.n_tokens // 20, 1), 10_000_000)

    def base_lr(self, d_in: int) -> float:
        """The given learning rate, else 2e-4 / sqrt(d_sae / 2^14), larger for short trainings.

        The rule is that of Gao et al. 2024 (arXiv 2406.04093) for trainings of at least 10^5 steps. Shorter
        ones take steps larger by sqrt(10^5 / n_steps), at most four times as large: at 10^3 steps on an
        embedded model this halves the unexplained variance.
        """
        shortness = min(max(math.sqrt(1e5 / self.n_steps), 1.0), 4.0)
        return self.lr or shortness * 2e-4 / math.sqrt(self.n_latents(d_in) / 2**14)

    @property
    def betas(self) -> tuple[float, float]:
        """Adam's decays. By default the second moment is that of the last thirtieth of the training.

        It covers at least 16 and at most 1,000 steps. It must forget the gradients of a start at which
        every second latent is active, or steps stay small for the rest of a short training.
        """
        memory = min(max(self.n_steps / 30, 16.0), 1000.0)
        return self.beta1, 1 - 1 / memory if self.beta2 is None else self.beta2


class KeptConfig(GradientConfig):
    """Shared by the architectures that keep a fixed number of latents and revive dead ones."""

    example: ClassVar[dict[str, Any]] = {"k": 2}

    k: int = Field(ge=1)
    """Latents to keep per token (on average, for batch_topk)."""
    aux_alpha: float = Field(default=1 / 32, ge=0)
    """Coefficient of the loss by which dead latents learn from the residual; 0 disables it."""
    aux_k: int | None = Field(default=None, ge=1)
    """Dead latents used per token in that loss; default: the power of two next to d_in / 2."""

    def sparsity_tag(self) -> str:
        return f"k{self.k}"

    def n_aux(self, d_in: int) -> int:
        """Dead latents used per token in the auxiliary loss."""
        return self.aux_k or 2 ** max(round(math.log2(max(d_in / 2, 1))), 0)

    def check_width(self, d_in: int) -> None:
        super().check_width(d_in)
        if self.k > self.n_latents(d_in):
            raise UserError(
                f"dictionary {self.name()!r}: k = {self.k} exceeds its {self.n_latents(d_in)} latents; "
                "choose a smaller k or a larger expansion_factor"
            )
