"""The settings of caching in a pipeline."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from tasks.activations.hookpoint import HookpointText
from tasks.activations.models.source import ModelConfig
from tasks.activations.text.packing import BosPolicy, LongDocuments, Packing
from tasks.common.config import StrictConfig

ShardDtype = Literal["auto", "float16", "float32"]


class ActivationsConfig(StrictConfig):
    """Which activations are cached, on how much text, and which tokens count."""

    later_fields: ClassVar[frozenset[str]] = frozenset({"sink_norm_multiple"})

    hookpoints: tuple[HookpointText, ...] = ()
    """Hookpoints, for example blocks.2.resid_post; a model may name its own."""
    context_length: int = Field(ge=2)
    """Tokens in a sequence, including special tokens."""
    n_tokens: int = Field(ge=1)
    """Token budget, train and eval together; a smaller corpus is used completely."""
    packing: Packing = "block"
    """block (several documents in a sequence, attention kept apart) or per_document."""
    long_documents: LongDocuments = "split"
    """split (cut a document that does not fit into chunks) or truncate (use only its beginning)."""
    bos: BosPolicy = "drop"
    """none (no BOS), keep (BOS counts as a token) or drop (only the model sees BOS)."""
    drop_first_token: bool = False
    """Also leave out the first text token of every chunk, for models whose first token is a sink."""
    massive_tokens: Literal["keep", "drop"] = "keep"
    """keep, or drop (leave out valid tokens whose norm is over 5 times the median, mostly sinks)."""
    sink_norm_multiple: float | None = Field(default=None, gt=1)
    """Leave out tokens whose norm is over this multiple of the median, for another limit than drop has."""
    dtype: ShardDtype = "auto"
    """Number format on disk; auto is float16 unless a probe finds values that need float32."""
    eval_share: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of the token budget that goes to documents of the eval split."""
    seed: int = 0
    """Seed of the order of documents."""
    batch_sequences: int = Field(default=32, ge=1)
    """Sequences in one forward pass."""
    shard_mebibytes: float = Field(default=32, gt=0)
    """Size of a shard, the most work that a crash can lose."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.hookpoints)) != len(self.hookpoints):
            raise ValueError("activations.hookpoints names a hookpoint twice")
        if self.sink_norm_multiple is not None and self.massive_tokens == "drop":
            raise ValueError(
                "massive_tokens: drop leaves out tokens over 5 times the median norm, sink_norm_multiple "
                "those over another multiple: give one of them"
            )
        return self

    def for_model(self, model: ModelConfig) -> "ActivationsConfig":
        """The configuration with the model's own hookpoints if it names any."""
        return self.model_copy(update={"hookpoints": model.hookpoints}) if model.hookpoints else self

    @property
    def n_eval_tokens(self) -> int:
        """Token budget of the eval split."""
        return round(self.n_tokens * self.eval_share)

    @property
    def n_train_tokens(self) -> int:
        """Token budget of the train split."""
        return self.n_tokens - self.n_eval_tokens
