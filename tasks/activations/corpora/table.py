"""From a source's documents to the corpus that every stage reads: clean, without duplicates, split."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Annotated, NamedTuple

import pyarrow as pa
from pydantic import BeforeValidator, SerializeAsAny

from catalog.errors import UserError
from tasks.activations.corpora.kept_signatures import KeptSignatures
from tasks.activations.corpora.near_duplicates import NearDuplicates
from tasks.activations.corpora.source import CORPUS_SOURCES, Document, SourceConfig
from tasks.common.progress import ProgressListener, silent, track

CorpusConfig = Annotated[
    SerializeAsAny[SourceConfig], BeforeValidator(CORPUS_SOURCES.resolve_config("source"))
]
"""The ``corpus`` section of a pipeline: a mapping whose ``source`` names a registered source."""

CORPUS_SCHEMA = pa.schema(
    [
        ("document_id", pa.string()),
        ("split", pa.string()),
        ("n_chars", pa.int64()),
        ("text", pa.string()),
        ("labels", pa.map_(pa.string(), pa.string())),
    ]
)
BATCH_DOCUMENTS = 1_000


class Forgotten(NamedTuple):
    """Documents that must not be read: they were forgotten."""

    document_ids: frozenset[str] = frozenset()
    """Their ids in this corpus."""
    text_digests: frozenset[str] = frozenset()
    """SHA-256 of texts, whatever their ids."""

    def has(self, document_id: str, own_digest: str) -> bool:
        """Whether a document is one of them."""
        return document_id in self.document_ids or own_digest in self.text_digests


NONE_FORGOTTEN = Forgotten()


class Generation(NamedTuple):
    """The documents that a corpus gained at one reading of its source."""

    digest: str
    """SHA-256 over their ids, splits and texts."""
    n_documents: int


class CorpusTable(NamedTuple):
    """A corpus as a table, in the order of its source."""

    table: pa.Table
    """Columns of `CORPUS_SCHEMA`, one row per document."""
    source: str
    revision: str
    digest: str
    """`corpus_digest` of the documents kept."""
    n_duplicates: int
    """Documents left out because an earlier one has the same text."""
    n_empty: int
    """Documents left out because they contain only white space."""
    n_near_duplicates: int = 0
    """Documents left out because they resemble an earlier one."""
    chat_template: str | None = None
    """Digest of the template that rendered the conversations; None for plain texts."""
    generations: tuple[Generation, ...] = ()
    """Of a corpus that grows, in order; the table then has the column ``generation``, counted from 1."""
    n_gone: int = 0
    """Documents of earlier generations that the source no longer has; they stay in the corpus."""


def corpus_table(
    config: SourceConfig,
    eval_share: float,
    listener: ProgressListener = silent,
    forgotten: Forgotten = NONE_FORGOTTEN,
) -> CorpusTable:
    """Read the corpus of a configuration without the documents that were forgotten.

    The listener gets the number of documents read.

    Half surrogates, which no UTF-8 file can hold, become U+FFFD; nothing else changes.

    Raises:
        UserError: when the source cannot be read, has no text, or gives two documents the same name.
    """
    source = CORPUS_SOURCES[str(getattr(config, "source", ""))](config)
    about = source.describe()
    table = TableInMaking(config.near_duplicates, forgotten=forgotten)
    for document in track(source.documents(), "documents read", listener):
        table.add(document, source.split_of(document.document_id, eval_share))
    refuse_empty(len(table.text_digests), about)
    return CorpusTable(
        table=table.finish(),
        source=about["source"],
        revision=about["revision"],
        digest=digest_of_digests(table.text_digests.items()),
        n_duplicates=table.n_duplicates,
        n_empty=table.n_empty,
        n_near_duplicates=table.n_near_duplicates,
        chat_template=about.get("chat_template"),
    )


def refuse_empty(n_documents: int, about: Mapping[str, str]) -> None:
    """Refuse a source without a document; ``about`` is what it says of itself.

    Raises:
        UserError: naming it.
    """
    if n_documents == 0:
        raise UserError(
            f"the corpus of source {about['source']!r} ({about['revision']}) has no document with text: "
            "check its path, text column and limits"
        )


class TableInMaking:
    """Takes documents one by one and stores them as Arrow, not as Python objects."""

    def __init__(
        self,
        near_duplicates: float | None,
        earlier: pa.Table | None = None,
        forgotten: Forgotten = NONE_FORGOTTEN,
        signatures: KeptSignatures | None = None,
    ) -> None:
        self._forgotten = forgotten
        self._signatures = signatures or KeptSignatures()
        self.earlier_digests: dict[str, str] = {}
        self.seen_again: set[str] = set()
        self._earlier = earlier
        self.text_digests: dict[str, str] = {}
        self.n_duplicates = 0
        self.n_near_duplicates = 0
        self.n_empty = 0
        self._texts_seen: set[str] = set()
        self._near_duplicates = near_duplicates
        self._kept: NearDuplicates | None = None
        if earlier is not None:
            names = earlier["document_id"].to_pylist()
            self.earlier_digests = dict(
                zip(names, map(text_digest, earlier["text"].to_pylist()), strict=True)
            )
            self._texts_seen.update(self.earlier_digests.values())
        self._ids_seen: set[str] = set()
        self._rows: list[dict[str, object]] = []
        self._batches: list[pa.RecordBatch] = []

    def add(self, document: Document, split: str) -> None:
        """Clean the document and keep it, unless it is empty, forgotten or (nearly) a duplicate."""
        document_id, text = without_surrogates(document.document_id), without_surrogates(document.text)
        if document_id in self._ids_seen:
            raise UserError(
                f"two documents of the corpus are named {document_id!r}: choose an id column without "
                "repeats, or leave it out to number the documents"
            )
        self._ids_seen.add(document_id)
        if not text.strip():
            self.n_empty += 1
            return
        own_digest = text_digest(text)
        if self._forgotten.has(document_id, own_digest):
            self.seen_again.update({document_id} & self.earlier_digests.keys())
            return
        if document_id in self.earlier_digests:
            self._refuse_changed(document_id, own_digest)
            return
        if own_digest in self._texts_seen:
            self.n_duplicates += 1
            return
        self._texts_seen.add(own_digest)
        if self._resembles_earlier(text, own_digest):
            self.n_near_duplicates += 1
            return
        self.text_digests[document_id] = own_digest
        labels = [
            (name, None if value is None else without_surrogates(value))
            for name, value in document.labels.items()
        ]
        self._rows.append(
            {
                "document_id": document_id,
                "split": split,
                "n_chars": len(text),
                "text": text,
                "labels": labels,
            }
        )
        if len(self._rows) == BATCH_DOCUMENTS:
            self._flush()

    def _refuse_changed(self, document_id: str, own_digest: str) -> None:
        if own_digest != self.earlier_digests[document_id]:
            raise UserError(
                f"the text of document {document_id!r} changed since it was added: a corpus that grows keeps "
                "its documents; give the new text a new id, or leave grows out"
            )
        self.seen_again.add(document_id)

    def _resembles_earlier(self, text: str, own_digest: str) -> bool:
        if self._near_duplicates is None:
            return False
        if self._kept is None:
            self._kept = NearDuplicates(self._near_duplicates)
            texts = self._earlier["text"].to_pylist() if self._earlier is not None else ()
            for earlier, digest in zip(texts, self.earlier_digests.values(), strict=True):
                self._kept.is_new_signature(self._signatures.of(earlier, digest))
        return not self._kept.is_new_signature(self._signatures.of(text, own_digest))

    def finish(self) -> pa.Table:
        """All rows, in the order of arrival."""
        self._flush()
        return pa.Table.from_batches(self._batches, CORPUS_SCHEMA)

    def _flush(self) -> None:
        if self._rows:
            self._batches.append(pa.RecordBatch.from_pylist(self._rows, CORPUS_SCHEMA))
            self._rows = []


def text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def corpus_digest(documents: Iterable[Document]) -> str:
    """sha256 over the sorted lines ``document id, tab, sha256 of the text``."""
    return digest_of_digests((document.document_id, text_digest(document.text)) for document in documents)


def digest_of_digests(text_digests: Iterable[tuple[str, str]]) -> str:
    """`corpus_digest` from pairs of document id and sha256 of the text."""
    lines = (f"{document_id}\t{digest}\n" for document_id, digest in sorted(text_digests))
    total = hashlib.sha256()
    for line in lines:
        total.update(line.encode())
    return total.hexdigest()


def without_surrogates(text: str) -> str:
    """Pairs of half surrogates become the character that they encode, a lone half U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
