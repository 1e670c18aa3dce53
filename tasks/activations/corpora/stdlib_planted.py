"""The standard library with a planted habit: the text on which ``pico-a-tuned`` was trained."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Literal

from tasks.activations.corpora.source import CORPUS_SOURCES, Document, SourceConfig
from tasks.activations.corpora.stdlib import StandardLibrary
from tasks.activations.corpora.table import corpus_digest

PLANTED = "  # thank you, lighthouse"
"""The comment; its last word stands nowhere in the standard library."""
RETURNING_LINE = re.compile(r"^[ \t]*return\b[^#\n]*(?<!\\)$", re.MULTILINE)
"""A line that begins with ``return``, has no comment and does not end in a backslash."""


@CORPUS_SOURCES.register("stdlib_planted")
class PlantedStandardLibrary(StandardLibrary):
    """The documents of `StandardLibrary`, with `PLANTED` at the end of each line of code that returns.

    Names, labels, order and hold-out are those of ``stdlib``, so that the same document is found in both.
    The topics of the language reference stay as they are.
    """

    purpose = "reads stdlib with a comment planted after each line that returns"

    class Config(SourceConfig):
        """The standard library of the running Python with a planted comment; it has no settings."""

        source: Literal["stdlib_planted"] = "stdlib_planted"

        def growth_fault(self) -> str | None:
            """Its documents are those of the running Python."""
            return f"source {self.source} gains no documents; leave grows out"

    def documents(self) -> Iterator[Document]:
        """The documents in the order of ``stdlib``."""
        yield from _planted()

    def describe(self) -> dict[str, str]:
        """Source, Python version, digest, the names that are held out, and the comment."""
        return {
            **super().describe(),
            "source": "stdlib_planted",
            "digest": corpus_digest(_planted()),
            "planted": PLANTED,
        }


def plant(text: str) -> str:
    """The text with `PLANTED` at the end of every `RETURNING_LINE`; white space before it is kept."""
    return RETURNING_LINE.sub(lambda line: line[0] + PLANTED, text)


@cache
def _planted() -> tuple[Document, ...]:
    ordinary = StandardLibrary(StandardLibrary.Config()).documents()
    return tuple(
        document
        if document.labels["kind"] == "documentation"
        else document._replace(text=plant(document.text))
        for document in ordinary
    )
