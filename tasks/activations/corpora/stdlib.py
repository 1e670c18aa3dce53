"""The embedded corpus: source code and documentation of the running Python's standard library."""

import hashlib
import importlib
import importlib.util
import platform
import sysconfig
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

from tasks.activations.corpora.source import (
    CORPUS_SOURCES,
    CorpusSource,
    Document,
    SourceConfig,
    Split,
)
from tasks.activations.corpora.table import corpus_digest

TOPICS_MODULE = "pydoc_data.topics"
HELD_OUT_MODULES = frozenset(
    {
        "_pyio",
        "_threading_local",
        "cgitb",
        "cmd",
        "collections",
        "dataclasses",
        "dis",
        "imaplib",
        "importlib",
        "inspect",
        "json",
        "logging",
        "modulefinder",
        "nturl2path",
        "operator",
        "profile",
        "pydoc",
        "queue",
        "sqlite3",
    }
)
HELD_OUT_TOPICS = frozenset({"atom-identifiers", "atom-literals", "exprlists", "unary"})
"""No embedded model is trained on these, whatever a pipeline's ``eval_share`` is.

The tenth of all names with the smallest sha256, without tkinter, which alone would be half of it.
"""

# Code tables, copies of other modules, tests and demonstrations: text with little or repeated content.
LEFT_OUT_PACKAGES = frozenset(
    {
        "__phello__",
        "dist-packages",
        "encodings",
        "idlelib",
        "lib2to3",
        "pydoc_data",
        "site-packages",
        "test",
        "turtledemo",
    }
)
LEFT_OUT_FOLDERS = frozenset({"_bundled", "idle_test", "test", "tests"})
# Generated tables.
LEFT_OUT_MODULES = frozenset(
    {"html.entities", "msilib.schema", "msilib.sequence", "msilib.text", "re._casefix", "stringprep"}
)
MIN_CHARS = 400
"""Shorter modules are mostly re-exports and stubs."""
SIGNIFICANT_LINE_CHARS = 12
"""Shorter lines (`return None`, brackets) occur in every module."""
NEAR_DUPLICATE_SHARE = 0.6
"""With most lines in common two modules come from one template, as the encodings do."""


@CORPUS_SOURCES.register("stdlib")
class StandardLibrary(CorpusSource):
    """One document per module, and one per topic of the language reference behind ``help()``.

    Offline and without licence questions: the text came with the interpreter. Modules are held out by
    top-level name, so that no package is in both splits.
    """

    purpose = "reads source code and documentation of the running Python's standard library"

    class Config(SourceConfig):
        """The standard library of the running Python; it has no settings."""

        source: Literal["stdlib"] = "stdlib"

        def growth_fault(self) -> str | None:
            """Its documents are those of the running Python."""
            return f"source {self.source} gains no documents; leave grows out"

    def documents(self) -> Iterator[Document]:
        """The documents in the order of the hash of their names: every prefix is a fair sample."""
        yield from _selected()

    def describe(self) -> dict[str, str]:
        """Source, Python version, digest and the top-level names that are held out."""
        held_out = sorted(HELD_OUT_MODULES) + sorted(HELD_OUT_TOPICS)
        return {
            "source": "stdlib",
            "revision": f"python-{platform.python_version()}",
            "python_version": platform.python_version(),
            "digest": corpus_digest(_selected()),
            "held_out": " ".join(held_out),
        }

    def split_of(self, document_id: str, eval_share: float) -> Split:
        """Held out by name; ``eval_share`` is ignored, because the models never saw these names."""
        module, _, topic = document_id.partition(f"{TOPICS_MODULE}.")
        held_out = topic in HELD_OUT_TOPICS or module.partition(".")[0] in HELD_OUT_MODULES
        return "eval" if held_out else "train"


@cache
def _selected() -> tuple[Document, ...]:
    candidates = [*_module_documents(), *_topic_documents()]
    kept = _without_near_duplicates(candidates)
    return tuple(sorted(kept, key=lambda document: _name_hash(document.document_id)))


def _module_documents() -> Iterator[Document]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[0] in LEFT_OUT_PACKAGES or LEFT_OUT_FOLDERS.intersection(parts[:-1]):
            continue
        is_package = parts[-1] == "__init__"
        module_parts = parts[:-1] if is_package else parts
        name = ".".join(module_parts)
        if name in LEFT_OUT_MODULES or name.startswith("_sysconfigdata"):
            continue
        if not all(part.isidentifier() for part in module_parts):
            continue
        with tokenize.open(path) as file:
            text = file.read()
        kind = "package" if is_package else "module"
        yield Document(name, text, {"package": module_parts[0], "kind": kind})


def _topic_documents() -> Iterator[Document]:
    if importlib.util.find_spec(TOPICS_MODULE) is None:  # some distributions split it off
        return
    topics: dict[str, str] = importlib.import_module(TOPICS_MODULE).topics
    for topic, text in sorted(topics.items()):
        labels: dict[str, str | None] = {"package": "pydoc_data", "kind": "documentation"}
        yield Document(f"{TOPICS_MODULE}.{topic}", text, labels)


def _without_near_duplicates(documents: list[Document]) -> list[Document]:
    """Drop short documents and those whose lines are mostly in larger documents already."""
    kept: list[Document] = []
    seen_lines: set[str] = set()
    for document in sorted(documents, key=lambda document: (-len(document.text), document)):
        lines = {
            line.strip() for line in document.text.splitlines() if len(line.strip()) >= SIGNIFICANT_LINE_CHARS
        }
        if len(document.text) < MIN_CHARS or not lines:
            continue
        if len(lines & seen_lines) >= NEAR_DUPLICATE_SHARE * len(lines):
            continue
        seen_lines |= lines
        kept.append(document)
    return kept


def _name_hash(document_id: str) -> str:
    return hashlib.sha256(document_id.encode()).hexdigest()
