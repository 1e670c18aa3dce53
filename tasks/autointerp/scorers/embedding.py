"""Embedding: is the explanation closer to the contexts in which the feature fires than to others?"""

from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from catalog.ids import digest
from tasks.autointerp.local_models import Encoder, Pooling, check_files, files_digest, pooling_of
from tasks.autointerp.measuring import MeasuringConfig, MeasuringScorer
from tasks.autointerp.metrics import Values
from tasks.autointerp.scorer import SCORERS

N_KEPT = 20_000
"""Explanations whose vectors are kept: each is a donor of several others."""


class EmbeddingConfig(MeasuringConfig):
    """A text encoder turns explanation and contexts into vectors."""

    scorer: Literal["embedding"] = "embedding"
    shuffles: int = Field(default=20, ge=0)
    pooling: Pooling | None = None
    """How token vectors become one: mean, cls (the first) or last; by default as the encoder's folder says
    (1_Pooling)."""
    query_prefix: str = "query: "
    """Put before the explanation; retrieval encoders were trained with one."""
    passage_prefix: str = ""
    """Put before every context."""


@SCORERS.register("embedding")
class EmbeddingScorer(MeasuringScorer):
    """Cosine of the vectors; without a language model, and fast enough for every feature."""

    purpose = "compares explanation and contexts by the cosine of an encoder's vectors"
    config: EmbeddingConfig

    @classmethod
    def prompt_digest(cls, config: EmbeddingConfig) -> str:
        return digest({"cosine": 1, "files": files_digest(config.model), "pooling": _pooling(config)})

    @classmethod
    def check_config(cls, config: EmbeddingConfig) -> None:
        check_files(config.model)
        _pooling(config)

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self.config.model, _pooling(self.config))

    @cached_property
    def _known(self) -> dict[str, Values]:
        return {}

    def prepared(self, texts: list[str]) -> Any:
        return self._encoder.encode([self.config.passage_prefix + text for text in texts])

    def margins(self, explanation: str, texts: list[str], prepared: Any) -> Values:
        if explanation not in self._known:
            while len(self._known) >= N_KEPT:
                self._known.pop(next(iter(self._known)))
            (self._known[explanation],) = self._encoder.encode([self.config.query_prefix + explanation])
        cosines: Values = prepared @ self._known[explanation]
        return cosines


def _pooling(config: EmbeddingConfig) -> Pooling:
    return config.pooling or pooling_of(config.model)
