"""The smallest corpus source: documents of a few words, made up as they are read."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from tasks.activations.corpora.source import CORPUS_SOURCES, CorpusSource, Document, SourceConfig

WORDS = [
    "def",
    "return",
    "self",
    "None",
    "import",
    "class",
    "for",
    "in",
    "if",
    "else",
    "value",
    "list",
    "raise",
    "error",
]


class ToyCorpusConfig(SourceConfig):
    """How many documents."""

    source: Literal["toy_corpus"] = "toy_corpus"
    n_documents: int = Field(default=80, ge=1)
    """Documents to make up."""


@CORPUS_SOURCES.register("toy_corpus")
class ToyCorpus(CorpusSource):
    """Every document has an order of words of its own."""

    config: ToyCorpusConfig
    purpose = "makes up documents of a few words"

    def documents(self) -> Iterator[Document]:
        for number in range(self.config.n_documents):
            words = [WORDS[(number * step + step * step) % len(WORDS)] for step in range(1, 70)]
            yield Document(f"d{number}", f"{number} " + " ".join(words), {})

    def describe(self) -> dict[str, str]:
        return {"source": "toy", "revision": "1"}
