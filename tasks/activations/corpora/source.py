"""The role of a corpus source, and the rule that splits documents into train and eval."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from tasks.common.config import StrictConfig
from tasks.common.registry import Registry

Split = Literal["train", "eval"]


class SourceConfig(StrictConfig):
    """Settings of every source."""

    near_duplicates: float | None = Field(default=0.8, gt=0, le=1)
    """Leave out a document at least this similar to an earlier one (0 to 1); null keeps near-duplicates."""
    grows: bool = False
    """Whether documents that the source gains later are added to those that are in the catalogue."""

    later_fields: ClassVar[frozenset[str]] = frozenset({"grows"})
    reach_fields: ClassVar[frozenset[str]] = frozenset({"revision", "max_documents"})
    """Fields that say how far the source is read: a corpus that grows may change them."""

    def lineage(self) -> dict[str, Any]:
        """What stays the same while the corpus grows."""
        return {name: value for name, value in self.canonical().items() if name not in self.reach_fields}

    def growth_fault(self) -> str | None:
        """Why documents that the source gains cannot be told from those it had; None if they can."""
        return None

    @model_validator(mode="after")
    def _can_grow(self) -> Self:
        fault = self.growth_fault() if self.grows else None
        if fault is not None:
            raise ValueError(f"grows: {fault}")
        return self


class Document(NamedTuple):
    """One text with its name and its labels (``package``, ``language``, whatever the source knows)."""

    document_id: str
    text: str
    labels: dict[str, str | None]


class CorpusSource(ABC):
    """Yields documents one at a time, in an order that is the same at every reading.

    A subclass registers itself in `CORPUS_SOURCES` and holds its configuration as ``Config``.
    """

    Config: ClassVar[type[SourceConfig]]
    purpose: ClassVar[str]
    """What it does, as the end of a sentence that begins with its name."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def documents(self) -> Iterator[Document]:
        """The documents, streamed; `corpus_table` handles duplicates and invalid characters."""

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """At least ``source`` (where the text is from) and ``revision`` (which state of it)."""

    def split_of(self, document_id: str, eval_share: float) -> Split:
        """The split of one document; a source with a fixed hold-out overrides this."""
        return split_of(document_id, eval_share)


CORPUS_SOURCES: Registry[CorpusSource] = Registry("corpus source", "tasks.activations.corpora")


def split_of(name: str, eval_share: float) -> Split:
    """``eval`` for about ``eval_share`` of all names, by hash: the same on every machine.

    The eval set of a smaller share is a subset of that of a larger one.
    """
    digest = hashlib.sha256(name.encode("utf-8", "replace")).digest()
    return "eval" if int.from_bytes(digest[:8], "big") < eval_share * 2**64 else "train"
