"""The settings that all dictionary configurations share, trained, fitted or imported."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from catalog.errors import UserError
from tasks.activations.hookpoint import Hookpoint, HookpointText
from tasks.common.config import StrictConfig
from tasks.dictionaries.token_norm import TokenNorm

Precision = Literal["auto", "float32", "bfloat16"]

NOT_TRAINING = frozenset({"evaluation", "reads", "writes", "models", "train_on", "init_from"})
"""Fields that do not affect a training by themselves: measuring comes after it, hookpoints follow from its
data, and a name follows from the dictionary that it refers to."""


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
    """What every dictionary is; an architecture adds how it is trained or fitted, and its own settings."""

    later_fields: ClassVar[frozenset[str]] = frozenset({"init_from", "train_on"})
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
    train_on: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Models of the pipeline to train on; default: every model that caches its hookpoints."""
    seed: int = Field(default=0, ge=0)
    """Seed of the initial weights."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How the dictionary is measured after training."""

    @model_validator(mode="after")
    def _one_width(self) -> Self:
        self.check_latents()
        return self

    @model_validator(mode="after")
    def _hookpoints_fit(self) -> Self:
        for name, hookpoints in (("reads", self.reads), ("writes", self.writes)):
            if hookpoints is not None and (not hookpoints or len(set(hookpoints)) < len(hookpoints)):
                raise ValueError(f"{name} needs at least one hookpoint, each only once")
        self.check_hookpoints()
        return self

    def check_latents(self) -> None:
        """Refuse a configuration without a number of latents.

        Raises:
            ValueError: one clause that says what to give.
        """
        if (self.expansion_factor is None) == (self.d_sae is None):
            raise ValueError("give exactly one of expansion_factor and d_sae")

    def check_hookpoints(self) -> None:
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

    @property
    def starts_from(self) -> str | None:
        """The dictionary of the catalogue whose weights its training starts from; None for random ones."""
        return None

    def training(self) -> dict[str, Any]:
        """The settings that determine the weights, besides the data: all but hookpoints and evaluation."""
        return {name: value for name, value in self.canonical().items() if name not in NOT_TRAINING}

    def trains_on(self, model_id: str) -> bool:
        """Whether a pipeline trains it on a model."""
        return self.models is None and (self.train_on is None or model_id in self.train_on)

    def n_latents(self, d_in: int) -> int:
        """Number of latents on inputs of width ``d_in``."""
        if self.d_sae is not None:
            return self.d_sae
        assert self.expansion_factor is not None
        return self.expansion_factor * d_in

    @property
    def encodes_as(self) -> str:
        """Name of the rule by which it encodes: the architecture, unless a setting changes the rule."""
        return self.architecture

    def sparsity_tag(self) -> str:
        """The sparsity setting in the name, for example k32."""
        raise NotImplementedError

    @property
    def input_norm(self) -> TokenNorm:
        """Normalisation of each input by itself, before it is encoded."""
        return "none"

    @property
    def hookpoints(self) -> tuple[str, ...]:
        """The hookpoints that it names, read or written."""
        return (*(self.reads or ()), *(self.writes or ()))

    @property
    def hookpoints_name(self) -> str:
        """Its hookpoints, if it names any; empty for one dictionary at every hookpoint."""
        return "" if self.reads is None else name_of_hookpoints(self.reads, self.writes)

    def name(self) -> str:
        """Readable name, for example topk-x8-k32-s0."""
        width = f"x{self.expansion_factor}" if self.expansion_factor else f"w{self.d_sae}"
        return f"{self.architecture}-{width}-{self.sparsity_tag()}-s{self.seed}"

    def check_width(self, d_in: int) -> None:
        """Refuse sizes that cannot work with inputs of width ``d_in``.

        Raises:
            UserError: one sentence that names the field.
        """
        if d_in < 1:
            raise UserError(f"dictionary {self.name()!r}: inputs need at least one dimension, not {d_in}")


def name_of_hookpoints(reads: Sequence[str], writes: Sequence[str] | None = None) -> str:
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
