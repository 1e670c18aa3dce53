"""The rows of the tables without a document.

The document keeps its row in ``documents``, without text and labels, and a row in ``forgotten_documents``.
Its examples and firings go, its tokens become placeholders. Explanations of features with an example of it
are marked; one that names a word which only the forgotten document supports loses its text. Statistics stay.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.forgetting import Evidence, Feature, files_about, tokens_of
from catalog.parquet_io import DataFile
from catalog.rewriting import Rewriting, with_column
from catalog.snapshot import Snapshot

WITHDRAWN = "it named a word of a forgotten document; its stage explains the feature again"
_KEY = ("dictionary_id", "activation_set_id", "feature_index")
_SAID = ("label", "facts", "summary", "error")
"""Columns of ``runs`` and ``stage_runs`` that may quote a value of a label."""


@dataclass
class Counts:
    """What was taken out or marked."""

    n_examples: int = 0
    n_firings: int = 0
    n_explanations: int = 0
    n_withdrawn: int = 0


def forget_rows(rewriting: Rewriting, evidence: Evidence, sets: Mapping[str, Mapping[str, Any]]) -> Counts:
    """Add to ``rewriting`` what takes the document out of every table but the ledger's.

    Args:
        rewriting: The changes of the commit.
        evidence: What the version that they start from holds.
        sets: Columns of ``activation_sets`` with the values that they have without the document.
    """
    base, counts, document = rewriting.base, Counts(), evidence.document_id
    names = list(evidence.sets)

    def about(table: str) -> list[DataFile]:
        return files_about(base, table, "activation_set_id", names)

    def left(table: pa.Table) -> pa.Table:
        mine = pc.and_(pc.equal(table["document_id"], document), _is_in(table, names))
        return table.filter(pc.invert(mine))

    of_corpus = files_about(base, "documents", "corpus_id", evidence.corpora)
    rewriting.rewrite("documents", of_corpus, lambda table: _without_text(table, evidence))
    rewriting.rewrite(
        "sequences",
        _of_document(base, about("sequences"), document, listed=True),
        lambda table: _without_tokens(table, document),
    )
    for table, name in (("examples", "n_examples"), ("document_firings", "n_firings")):
        files = _of_document(base, about(table), document)
        rewriting.rewrite(table, files, left)
        removed = (f.rows - (new.rows if (new := rewriting.replaced[f.path]) else 0) for f in files)
        setattr(counts, name, sum(removed))
    rewriting.rewrite(
        "features",
        _of_features(base, about("features"), evidence),
        lambda table: _without_peaks(table, evidence),
    )
    rewriting.rewrite(
        "explanations",
        _of_features(base, about("explanations"), evidence),
        lambda table: _marked(table, evidence, base.version + 1, counts),
    )
    rewriting.rewrite(
        "activation_sets", about("activation_sets") if sets else [], lambda table: _with_values(table, sets)
    )
    return counts


def without_labels(table: pa.Table, evidence: Evidence) -> pa.Table:
    """Rows of ``runs`` or ``stage_runs`` that quote no label value which only the document had."""
    for name in (name for name in _SAID if name in table.column_names):
        for value in evidence.labels:
            for quoted in dict.fromkeys((json.dumps(value)[1:-1], value)):
                column = pc.replace_substring(table[name], quoted, "(forgotten)")
                table = with_column(table, name, column)
    return table


def _is_in(table: pa.Table, sets: Sequence[str]) -> pa.ChunkedArray:
    return pc.is_in(table["activation_set_id"], value_set=pa.array(sets, pa.string()))


def _of_document(
    base: Snapshot, files: Sequence[DataFile], document_id: str, *, listed: bool = False
) -> list[DataFile]:
    """Those of ``files`` that hold the document."""
    column = "document_ids" if listed else "document_id"
    found = []
    for file in files:
        values = pq.read_table(base.root / file.path, columns=[column], partitioning=None)[column]
        values = pc.list_flatten(values) if listed else values
        if pc.any(pc.equal(values, document_id), min_count=0).as_py():
            found.append(file)
    return found


def _of_features(base: Snapshot, files: Sequence[DataFile], evidence: Evidence) -> list[DataFile]:
    """Those of ``files`` that hold a feature with an example of the document."""
    return [
        file
        for file in files
        if not evidence.kept.keys().isdisjoint(
            _keys(pq.read_table(base.root / file.path, columns=list(_KEY), partitioning=None))
        )
    ]


def _keys(table: pa.Table) -> list[Feature]:
    return list(zip(*(table[name].to_pylist() for name in _KEY), strict=True))


def _without_text(table: pa.Table, evidence: Evidence) -> pa.Table:
    of_corpus = pc.is_in(table["corpus_id"], value_set=pa.array(evidence.corpora, pa.string()))
    mine = pc.and_(of_corpus, pc.equal(table["document_id"], evidence.document_id))
    table = with_column(table, "text", pc.if_else(mine, "", table["text"]))
    table = with_column(table, "n_chars", pc.if_else(mine, pa.scalar(0, pa.int64()), table["n_chars"]))
    labels = [
        [] if own else found for own, found in zip(mine.to_pylist(), table["labels"].to_pylist(), strict=True)
    ]
    return with_column(table, "labels", pa.array(labels, table.schema.field("labels").type))


def _without_tokens(table: pa.Table, document_id: str) -> pa.Table:
    """Sequences with a placeholder for each token of the document; positions in a sequence do not change."""
    placeholders = {"token_ids": -1, "char_starts": 0, "char_ends": 0, "valid": False}
    pieces = []
    for batch in table.combine_chunks().to_batches():
        mine, _, _ = tokens_of(batch, document_id)
        piece = pa.Table.from_batches([batch])
        for name, placeholder in placeholders.items():
            column = batch[name]
            values = column.flatten()
            values = pc.if_else(pa.array(mine), pa.scalar(placeholder, values.type), values)
            ends = np.concatenate([[0], np.cumsum(pc.list_value_length(column).to_numpy())])
            lists = pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), values, type=column.type)
            piece = with_column(piece, name, lists)
        pieces.append(piece)
    return pa.concat_tables(pieces) if pieces else table


def _without_peaks(table: pa.Table, evidence: Evidence) -> pa.Table:
    """Features without the common peak tokens that only the forgotten document has among their examples."""
    tokens = [
        [token for token in found if key not in evidence.kept or not evidence.unsupported(key, token)]
        for key, found in zip(_keys(table), table["top_tokens"].to_pylist(), strict=True)
    ]
    return with_column(table, "top_tokens", pa.array(tokens, table.schema.field("top_tokens").type))


def _marked(table: pa.Table, evidence: Evidence, version: int, counts: Counts) -> pa.Table:
    """Explanations of the features marked as stale, and withdrawn where they name an unsupported word."""
    rows = table.to_pylist()
    for key, row in zip(_keys(table), rows, strict=True):
        if key not in evidence.kept:
            continue
        row["stale_in"] = version
        counts.n_explanations += 1
        said = [row["text"], *_strings(json.loads(row["predicate"] or "null"))]
        said += [share["token"] for share in row["token_shares"] or ()]
        if row["status"] != "withdrawn" and any(evidence.unsupported(key, text) for text in said):
            row |= {"status": "withdrawn", "text": None, "predicate": None, "token_shares": None}
            row["error"] = WITHDRAWN
            counts.n_withdrawn += 1
        elif evidence.unsupported(key, row["error"]):
            row["error"] = WITHDRAWN  # it may quote a reply
    return pa.Table.from_pylist(rows, schema=table.schema)


def _strings(value: Any) -> Iterator[str]:
    """The texts in a JSON value, without the names of its fields."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(inner)


def _with_values(table: pa.Table, sets: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    rows = [{**row, **sets.get(row["activation_set_id"], {})} for row in table.to_pylist()]
    return pa.Table.from_pylist(rows, schema=table.schema)
