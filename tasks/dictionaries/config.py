"""The settings that all dictionary configurations share."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from catalog.errors import UserError
from tasks.activations.hookpoint import Hookpoint, HookpointText
from tasks.common.config import StrictConfig
from tasks.dictionaries.token_norm import TokenNorm

Normalisation = Literal["dataset_rms", "none"]
BiasStart = Literal["geometric_median", "mean", "zero"]
Decay = Literal["linear", "cosine"]
Precision = Literal["auto", "float32", "bfloat16"]

NOT_TRAINING = frozenset({"evaluation", "reads", "writes", "models"})
"""Fields that do not affect a training: measuring comes after it, hookpoints follow from its data."""


class EvaluationConfig(StrictConfig):
    """How a dictionary is measured on the eval documents."""

    max_tokens: int = Field(default=500_000, ge=1)
    """Maximum number of valid eval tokens for the reconstruction metrics."""
    max_control_tokens: int = Field(default=100_000, ge=1)
    """Maximum number of valid train tokens to fit the controls (PCA, random directions)."""
    fidelity_sequences: int = Field(default=64, ge=0)
    """Number of eval sequences for CE and KL, which need the language model; 0 disables both."""
    seed: int = 0
    """Seed of the random control and of the mask of masked language models."""


class TrainingConfig(StrictConfig):
    """How the dictionaries of a pipeline are trained; results change at most by rounding."""

    together: bool = True
    """Train the dictionaries of a model in one process; those of the same data share one pass over it."""
    n_processes: int = Field(default=1, ge=1)
    """Processes that share every batch, started by torchrun: one per GPU of the worker."""
    precision: Precision = "auto"
    """Of matrix products: auto is bfloat16 on GPUs that have it, else float32. Weights are float32."""


class DictionaryConfig(StrictConfig):
    """The fields all architectures share; each architecture adds its own, at least its sparsity."""

    example: ClassVar[dict[str, Any]] = {}
    """Sparsity settings for a small trial with about two active latents per token."""
    reads_labels: ClassVar[bool] = False
    """Whether it needs the labels of the documents."""
    is_control: ClassVar[bool] = False
    """Whether it represents what no method can reach; pipelines do not match its features with others."""

    architecture: str
    """Name in the registry, for example topk."""
    expansion_factor: int | None = Field(default=None, ge=1)
    """Latents per input dimension; give this or d_sae."""
    d_sae: int | None = Field(default=None, ge=1)
    """Number of latents; give this or expansion_factor."""
    reads: tuple[HookpointText, ...] | None = None
    """Hookpoints to read; default: each hookpoint of the pipeline in turn, read and reconstructed."""
    writes: tuple[HookpointText, ...] | None = None
    """Hookpoints to write, for example the output of an MLP; default: those it reads."""
    models: tuple[str, str] | None = None
    """Two models with one tokenizer to read together; only for crosscoders."""
    seed: int = Field(default=0, ge=0)
    """Seed of the initial weights."""
    data_seed: int = Field(default=0, ge=0)
    """Seed of the order of the data; dictionaries with the same one can share one pass over the data."""
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
    evaluation: EvaluationConfig = EvaluationConfig()
    """How the dictionary is measured after training."""

    @model_validator(mode="after")
    def _one_width(self) -> Self:
        self.check_latents()
        return self

    @model_validator(mode="after")
    def _sites_fit(self) -> Self:
        for name, hookpoints in (("reads", self.reads), ("writes", self.writes)):
            if hookpoints is not None and (not hookpoints or len(set(hookpoints)) < len(hookpoints)):
                raise ValueError(f"{name} needs at least one hookpoint, each only once")
        self.check_sites()
        return self

    def check_latents(self) -> None:
        """Refuse a configuration without a number of latents.

        Raises:
            ValueError: one clause that says what to give.
        """
        if (self.expansion_factor is None) == (self.d_sae is None):
            raise ValueError("give exactly one of expansion_factor and d_sae")

    def check_sites(self) -> None:
        """Refuse hookpoints that the architecture does not support.

        Raises:
            ValueError: one clause that says what to give instead.
        """
        if self.writes is not None or self.models is not None:
            raise ValueError(
                f"{self.architecture} reconstructs what it reads: leave out writes and models, or choose a "
                "transcoder (reads one hookpoint, writes another) or a crosscoder (several models)"
            )
        if self.reads is not None and len(self.reads) > 1:
            raise ValueError(
                f"{self.architecture} reads one hookpoint: leave reads out for one dictionary at each "
                "hookpoint, or choose crosscoder for one dictionary of several"
            )

    def training(self) -> dict[str, Any]:
        """The settings that determine the weights, besides the data: all but hookpoints and evaluation."""
        return {name: value for name, value in self.canonical().items() if name not in NOT_TRAINING}

    def n_latents(self, d_in: int) -> int:
        """Number of latents on inputs of width ``d_in``."""
        if self.d_sae is not None:
            return self.d_sae
        assert self.expansion_factor is not None
        return self.expansion_factor * d_in

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

    def sparsity_tag(self) -> str:
        """The sparsity setting in the name, for example k32."""
        raise NotImplementedError

    @property
    def hookpoints(self) -> tuple[str, ...]:
        """The hookpoints that it names, read or written."""
        return (*(self.reads or ()), *(self.writes or ()))

    @property
    def place(self) -> str:
        """Its hookpoints, if it names any; empty for one dictionary at every hookpoint."""
        return "" if self.reads is None else place_name(self.reads, self.writes)

    def name(self) -> str:
        """Readable name, for example topk-x8-k32-s0."""
        width = f"x{self.expansion_factor}" if self.expansion_factor else f"w{self.d_sae}"
        order = f"-d{self.data_seed}" if self.data_seed else ""
        return f"{self.architecture}-{width}-{self.sparsity_tag()}-s{self.seed}{order}"

    def check_width(self, d_in: int) -> None:
        """Refuse sizes that cannot work with inputs of width ``d_in``.

        Raises:
            UserError: one sentence that names the field.
        """
        if d_in < 1:
            raise UserError(f"dictionary {self.name()!r}: inputs need at least one dimension, not {d_in}")


class KeptConfig(DictionaryConfig):
    """Shared by the architectures that keep a fixed number of latents and revive dead ones."""

    example: ClassVar[dict[str, Any]] = {"k": 2}

    k: int = Field(ge=1)
    """Latents to keep per token (on average, for batch_topk)."""
    aux_alpha: float = Field(default=1 / 32, ge=0)
    """Weight of the loss by which dead latents learn from the residual; 0 disables it."""
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


def place_name(reads: Sequence[str], writes: Sequence[str] | None = None) -> str:
    """Hookpoints as a part of an alias.

    ``blocks.2.resid_post`` stays, ``blocks.1.mlp_in`` to ``blocks.1.mlp_out`` becomes
    ``blocks.1.mlp_in-to-mlp_out``, the same name in several blocks ``blocks.0_1_2.resid_post``.
    """
    (blocks, kind), (written_blocks, written_kind) = _parts(reads), _parts(writes or reads)
    read, written = (
        ".".join(filter(None, part)) for part in ((blocks, kind), (written_blocks, written_kind))
    )
    if read == written:
        return read
    return f"{read}-to-{written_kind if blocks and blocks == written_blocks else written}"


def _parts(hookpoints: Sequence[str]) -> tuple[str, str]:
    """Blocks and kind of hookpoints of one kind; otherwise all names as the kind."""
    found = [Hookpoint.in_block(hookpoint) for hookpoint in hookpoints]
    kinds = {one.name for one in found if one}
    if all(found) and len(kinds) == 1:
        return "blocks." + "_".join(str(one.layer) for one in found if one), kinds.pop()
    return "", "-and-".join(hookpoint.replace(":", ".") for hookpoint in hookpoints)
