"""Sources of documents: one file per source, registered in `CORPUS_SOURCES`."""

from tasks.activations.corpora.source import (
    CORPUS_SOURCES,
    CorpusSource,
    Document,
    Split,
    split_of,
)
from tasks.activations.corpora.table import (
    CorpusConfig,
    CorpusTable,
    Forgotten,
    corpus_digest,
    corpus_table,
)

__all__ = [
    "CORPUS_SOURCES",
    "CorpusConfig",
    "CorpusSource",
    "CorpusTable",
    "Document",
    "Forgotten",
    "Split",
    "corpus_digest",
    "corpus_table",
    "split_of",
]
