"""A corpus that grows: documents that its source gained become a generation of their own.

Documents of earlier generations keep their texts, splits and order. A new document counts as a duplicate of
an earlier one, never the other way round, so that what was kept once stays.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from catalog.ids import digest
from tasks.activations.corpora.kept_signatures import KeptSignatures
from tasks.activations.corpora.source import CORPUS_SOURCES, CorpusSource, SourceConfig
from tasks.activations.corpora.table import (
    NONE_FORGOTTEN,
    CorpusTable,
    Forgotten,
    Generation,
    TableInMaking,
    refuse_empty,
    text_digest,
)
from tasks.common.progress import ProgressListener, silent, track

GENERATION = "generation"
"""Column of the documents: in which generation they came, counted from 1."""
logger = logging.getLogger(__name__)


def grown_corpus(
    config: SourceConfig,
    eval_share: float,
    lineage: str,
    earlier: CorpusTable | None,
    listener: ProgressListener = silent,
    forgotten: Forgotten = NONE_FORGOTTEN,
    signatures: KeptSignatures | None = None,
) -> CorpusTable:
    """Read a source and add what it gained to the documents of ``earlier``.

    Args:
        config: The source; documents are recognised by their ids.
        eval_share: As for `corpus_table`.
        lineage: Digest of what stays the same while the corpus grows.
        earlier: The corpus as it is in the catalogue; None for the first generation.
        listener: Gets the number of documents read.
        forgotten: Documents that are not read.
        signatures: Those of an earlier reading; by default all are computed.

    Returns:
        The corpus with one more generation, or ``earlier`` itself if nothing came.

    Raises:
        UserError: for a document whose text changed, and as `corpus_table`.
    """
    source = CORPUS_SOURCES[str(getattr(config, "source", ""))](config)
    about = source.describe()
    making = _read(source, eval_share, earlier, listener, forgotten, signatures)
    n_gone = len(making.earlier_digests) - len(making.seen_again)
    new = making.finish()
    if earlier is not None and not new.num_rows:
        return earlier._replace(n_gone=n_gone)
    refuse_empty(new.num_rows, about)
    generations = (*(earlier.generations if earlier else ()), Generation(_digest(new), new.num_rows))
    new = new.append_column(GENERATION, pa.repeat(pa.scalar(len(generations), pa.int32()), new.num_rows))
    old = [] if earlier is None else [earlier.table.select(new.column_names).cast(new.schema)]
    table = pa.concat_tables([*old, new])
    return CorpusTable(
        table=table.sort_by([(GENERATION, "ascending"), ("document_id", "ascending")]),
        source=about["source"],
        revision=about["revision"],
        digest=generations_digest(lineage, generations),
        n_duplicates=making.n_duplicates,
        n_empty=making.n_empty,
        n_near_duplicates=making.n_near_duplicates,
        chat_template=about.get("chat_template"),
        generations=generations,
        n_gone=n_gone,
    )


def _read(
    source: CorpusSource,
    eval_share: float,
    earlier: CorpusTable | None,
    listener: ProgressListener,
    forgotten: Forgotten,
    signatures: KeptSignatures | None,
) -> TableInMaking:
    """The documents that are new; those of ``earlier`` that are missing are only counted."""
    table = earlier.table if earlier is not None else None
    making = TableInMaking(source.config.near_duplicates, table, forgotten, signatures)
    for document in track(source.documents(), "documents read", listener):
        making.add(document, source.split_of(document.document_id, eval_share))
    n_gone = len(making.earlier_digests) - len(making.seen_again)
    if n_gone:
        logger.warning(
            "%d documents are no longer in the source of the corpus; they stay until `featlas forget`", n_gone
        )
    return making


def generations_digest(lineage: str, generations: Sequence[Generation]) -> str:
    """Digest of a corpus of these generations, in this order."""
    return digest([lineage, *(generation.digest for generation in generations)])


def each_generation(corpus: CorpusTable) -> Iterator[CorpusTable]:
    """The documents of each generation, as a corpus of its own."""
    number_G = corpus.table[GENERATION].to_numpy()
    for number, generation in enumerate(corpus.generations, start=1):
        rows = pa.array(np.flatnonzero(number_G == number))
        yield corpus._replace(
            table=corpus.table.take(rows), digest=generation.digest, generations=(generation,)
        )


def _digest(documents: pa.Table) -> str:
    columns = (documents[name].to_pylist() for name in ("document_id", "split", "text"))
    total = hashlib.sha256()
    for document_id, split, text in sorted(zip(*columns, strict=True)):
        total.update(f"{document_id}\t{split}\t{text_digest(text)}\n".encode())
    return total.hexdigest()
