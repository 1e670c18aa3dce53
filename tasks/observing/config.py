"""Settings of associations and comparisons."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from tasks.common.config import StrictConfig


class AssociationsConfig(StrictConfig):
    """Which document labels are related to features."""

    labels: tuple[str, ...] | None = None
    """Label columns of the corpus; all by default."""
    min_documents: int = Field(default=5, ge=2)
    """Documents that a value of a label needs, and in which a feature must fire, to take part."""
    max_values: int = Field(default=50, ge=2)
    """A label with more values is skipped, because it rather names documents than groups them."""


class Comparison(StrictConfig):
    """Two sides to compare."""

    a: str = Field(min_length=1)
    """Side a, from which changes are counted."""
    b: str = Field(min_length=1)
    """Side b."""
    min_documents: int = Field(default=5, ge=2)
    """Documents of both sides together in which a feature must fire to take part."""

    @model_validator(mode="after")
    def _sides_differ(self) -> "Comparison":
        if self.a == self.b:
            raise ValueError(f"a and b are both {self.a!r}: name two that differ")
        return self


class LabelsComparison(Comparison):
    """Documents of one set that have one value of a label against those that have another."""

    kind: Literal["labels"] = "labels"
    label: str = Field(min_length=1)
    """Label column of the corpus; a and b are two of its values."""

    @property
    def name(self) -> str:
        return f"labels {self.label}: {self.a} | {self.b}"


class CorporaComparison(Comparison):
    """Documents of one corpus against those of another, read by one model."""

    kind: Literal["corpora"] = "corpora"

    @property
    def name(self) -> str:
        return f"corpora {self.a} | {self.b}"


class ModelsComparison(Comparison):
    """The same text read by two models."""

    kind: Literal["models"] = "models"
    max_segments: int = Field(default=200_000, ge=100)
    """Tokens to compare; complete documents are drawn until it is reached."""
    n_flips: int = Field(default=999, ge=99, le=100_000)
    """Random sign flips of the null."""
    seed: int = Field(default=0, ge=0)
    """Seed of the draw of documents and of the sign flips."""

    @property
    def name(self) -> str:
        return f"models {self.a} | {self.b}"


class GrowthComparison(Comparison):
    """The newest documents of a corpus that grows against all earlier ones."""

    kind: Literal["growth"] = "growth"
    a: Literal["earlier"] = "earlier"
    """Always the earlier documents."""
    b: Literal["newest"] = "newest"
    """Always those that came last."""

    @property
    def name(self) -> str:
        return "growth: earlier | newest"


_KINDS: dict[str, type[Comparison]] = {
    "labels": LabelsComparison,
    "corpora": CorporaComparison,
    "models": ModelsComparison,
    "growth": GrowthComparison,
}


def _of_its_kind(value: Any) -> Any:
    """Read an entry by its kind.

    Raises:
        ValueError: for an unknown kind, naming those there are.
    """
    if not isinstance(value, Mapping):
        return value
    if value.get("kind") not in _KINDS:
        raise ValueError(f"unknown kind {value.get('kind')!r}; kinds: {', '.join(_KINDS)}")
    return _KINDS[value["kind"]].model_validate(value)


CompareConfig = Annotated[
    SerializeAsAny[LabelsComparison | CorporaComparison | ModelsComparison | GrowthComparison],
    BeforeValidator(_of_its_kind),
]
WITHIN_A_SET = ("labels", "growth")
"""Kinds that compare groups of documents of one set."""
