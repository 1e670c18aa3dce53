"""Settings of mining."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from catalog.schemas import DEFAULT_BANDS
from tasks.common.config import StrictConfig

MOST_BANDS = 10
"""Largest number of quantile bands."""


class DocumentFiringsConfig(StrictConfig):
    """Which pairs of a feature and a document the table `document_firings` keeps.

    What is left out counts as silent wherever documents are compared.
    """

    keep: bool = True
    """Whether the table is written; comparisons of labels and corpora need it."""
    min_tokens: int = Field(default=1, ge=1)
    """Tokens of the document on which the feature must fire."""
    min_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of its largest activation that the feature must reach in the document."""


class MiningConfig(StrictConfig):
    """How contexts are cut, how many of each band are kept, and the seed."""

    later_fields: ClassVar[frozenset[str]] = frozenset({"bands"})

    window_tokens: int = Field(default=32, ge=4, le=512)
    """Tokens of one context."""
    tokens_before_peak: int = Field(default=21, ge=0)
    """Tokens of the context before its strongest token, if there are enough."""
    chunk_tokens: int = Field(default=128, ge=4)
    """A feature has at most one context per this many consecutive tokens of a document."""
    n_top: int = Field(default=20, ge=2)
    """Strongest contexts to keep per feature, half of each split if there are enough."""
    n_per_band: int = Field(default=10, ge=0)
    """Contexts kept in each of the activation bands."""
    bands: Literal[5, 10] = DEFAULT_BANDS
    """Equal parts by activation that other contexts are divided into: q1 (strongest) to q5 or q10."""
    n_random: int = Field(default=20, ge=0)
    """Random contexts in which the feature does not fire."""
    n_neighbour: int = Field(default=20, ge=0)
    """Contexts in which a near feature fires and this one does not."""
    explain_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of documents whose contexts are for explaining; those of the others are for scoring."""
    n_nearest: int = Field(default=10, ge=1)
    """Nearest features kept by decoder cosine and by co-activation."""
    n_logits: int = Field(default=10, ge=1)
    """Tokens kept at both ends of the direct effect on the logits."""
    coactivation_tokens: int = Field(default=200_000, ge=1)
    """Tokens (complete sequences, drawn by hash) for counting coactivation; fewer if L0 is high."""
    dense_above: float = Field(default=0.1, gt=0, le=1)
    """Share of tokens above which a firing feature is called dense."""
    max_nonfinite_share: float = Field(default=0.001, ge=0, le=1)
    """Share of tokens with NaN or infinite numbers above which mining fails."""
    document_firings: DocumentFiringsConfig = DocumentFiringsConfig()
    """Which firings are kept per document; about 10 bytes of disk for a feature and document."""
    shard_tokens: int = Field(default=65_536, ge=1)
    """Tokens encoded between two resume points."""
    seed: int = 0
    """Seed of every draw."""

    @model_validator(mode="after")
    def _peak_inside_window(self) -> "MiningConfig":
        if self.tokens_before_peak >= self.window_tokens:
            raise ValueError("tokens_before_peak must be smaller than window_tokens")
        if self.chunk_tokens < self.window_tokens:
            raise ValueError("chunk_tokens must be at least window_tokens")
        return self
