"""What a stage reads from the catalogue: documents, evidence, explanations."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.damage import naming_damaged_files
from catalog.ids import digest
from catalog.ledger import Claim, Ledger, StageOutcome
from catalog.rows import batches_with_constants, with_constants
from catalog.schemas import TABLES
from catalog.store import SliceWrite, TableStore
from catalog.untrusted import blob_folder
from tasks.activations.models.source import ModelConfig

if TYPE_CHECKING:
    from tasks.activations.corpora import CorpusTable, Forgotten
    from tasks.dictionaries.base import Dictionary
    from tasks.dictionaries.hookpoint_activations import HookpointActivations

DOCUMENT_ORDER = ("generation", "document_id")
_LANDING = ("train_dictionary", "import_dictionary")


def evidence_ids(facts: Mapping[str, Any]) -> dict[str, str]:
    """What all evidence of a dictionary is found by: its own id and that of its activation set."""
    return {name: facts[name] for name in ("dictionary_id", "activation_set_id")}


def evidence_subject(dictionary_id: str, activation_set_id: str) -> str:
    """The subject of all rows of one dictionary on one activation set."""
    return f"{dictionary_id} on {activation_set_id}"


def evidence_label(facts: Mapping[str, Any]) -> str:
    """A dictionary in the label of its evidence; with the set, unless it was trained on it."""
    ids = evidence_ids(facts)
    return evidence_subject(**ids) if facts.get("observed") else ids["dictionary_id"]


def evidence_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What later stages are told of the dictionary, the set and the corpus of evidence."""
    kept = ("dictionary_id", "activation_set_id", "corpus_id", "observed")
    return {name: facts[name] for name in kept if name in facts}


def evidence_slice(
    table: str, facts: Mapping[str, Any], rows: pa.Table | Iterator[pa.RecordBatch], tag: str = ""
) -> SliceWrite:
    """Rows about a dictionary on its activation set, with both ids; ``tag`` tells slices apart."""
    ids = evidence_ids(facts)
    subject = " ".join(filter(None, (evidence_subject(**ids), tag)))
    add = with_constants if isinstance(rows, pa.Table) else batches_with_constants
    return SliceWrite(table, subject, add(rows, **ids))


def stored_rows(root: Path, table: str, columns: Sequence[str] | None = None, **equals: str) -> pa.Table:
    """Rows of a table whose columns have the values given, in the order of its files; all without values."""
    paths = TableStore(root).snapshot().paths(table)
    if not paths:
        empty = TABLES[table].schema.empty_table()
        return empty if columns is None else empty.select(list(columns))
    filters = [(name, "=", value) for name, value in equals.items()] or None
    schema = TABLES[table].schema.remove_metadata()
    with naming_damaged_files(root, [table]):
        return pq.read_table(paths, columns=columns, filters=filters, partitioning=None, schema=schema)


def with_earlier(root: Path, fingerprint: str, table: str, rows: pa.Table) -> pa.Table:
    """``rows``, and the rows of earlier attempts at the unit about other explanations or calls.

    All of them form one slice, so only their times tell which is newer. If the clock went back in between,
    new rows get times after those of earlier attempts.
    """
    key = TABLES[table].key[0]
    earlier = stored_rows(root, table, fingerprint=fingerprint)
    rows = _later_than(earlier, rows, key)
    others = earlier.filter(pc.invert(pc.is_in(earlier[key], value_set=rows[key].combine_chunks())))
    return pa.concat_tables([others.select(rows.column_names).cast(rows.schema), rows])


def grown_slices(root: Path, claim: Claim, subject: str, tables: Mapping[str, pa.Table]) -> list[SliceWrite]:
    """One slice per table for a unit that is taken up again: its new rows and those of earlier attempts."""
    return [
        SliceWrite(table, subject, with_earlier(root, claim.fingerprint, table, rows))
        for table, rows in tables.items()
    ]


def _later_than(earlier: pa.Table, rows: pa.Table, key: str) -> pa.Table:
    """``rows``, with those that ``earlier`` does not have moved after it in time if necessary."""
    if not earlier.num_rows or "created_at" not in rows.column_names:
        return rows
    times = rows["created_at"]
    is_new = pc.invert(pc.is_in(rows[key], value_set=earlier[key].combine_chunks()))
    first, last = pc.min(times.filter(is_new)).as_py(), pc.max(earlier["created_at"]).as_py()
    if first is None or first > last:
        return rows
    shift = pa.scalar(last - first + timedelta(microseconds=1), pa.duration("us"))
    moved = pc.if_else(is_new, pc.add(times, shift), times).cast(times.type)
    return rows.set_column(rows.column_names.index("created_at"), "created_at", moved)


def stored_documents(root: Path, corpus_id: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Documents of a corpus by generation and ``document_id``, the order of documents in activation sets."""
    wanted = None if columns is None else list(dict.fromkeys([*columns, *DOCUMENT_ORDER]))
    rows = stored_rows(root, "documents", wanted, corpus_id=corpus_id)
    rows = rows.sort_by([(name, "ascending") for name in DOCUMENT_ORDER])
    return rows if columns is None else rows.select(list(columns))


def stored_corpus(root: Path, corpus_id: str) -> "CorpusTable":
    """The corpus of the catalogue: exactly the texts from which the examples will be cut."""
    from tasks.activations.corpora import CorpusTable

    (row,) = stored_rows(root, "corpora", corpus_id=corpus_id).to_pylist()
    documents = stored_documents(
        root, corpus_id, ["document_id", "split", "n_chars", "text", "labels", "generation"]
    )
    kept = {name: row[name] for name in ("source", "revision", "digest", "n_duplicates", "chat_template")}
    return CorpusTable(documents, **kept, n_empty=0)


def forgotten_documents(root: Path, settings: Mapping[str, Any]) -> "Forgotten":
    """What a corpus with these settings must not read: forgotten texts, and its own forgotten ids."""
    from tasks.activations.corpora import Forgotten

    rows = stored_rows(root, "forgotten_documents").to_pylist()
    mine = digest(dict(settings))
    return Forgotten(
        frozenset(row["document_id"] for row in rows if row["settings_digest"] == mine),
        frozenset(row["text_digest"] for row in rows),
    )


def document_labels(root: Path, corpus_id: str) -> dict[str, dict[str, str]]:
    """Label columns of each document that has any."""
    documents = stored_documents(root, corpus_id, ["document_id", "labels"])
    return {
        row["document_id"]: {name: value for name, value in row["labels"] if value is not None}
        for row in documents.to_pylist()
        if row["labels"]
    }


def newest_texts(root: Path, fingerprint: str) -> pa.Table:
    """For each feature the newest explanation with a text that one explaining stage wrote."""
    rows = stored_rows(root, "explanations", fingerprint=fingerprint, status="ok")
    rows = rows.sort_by([("feature_index", "ascending"), ("created_at", "descending")])
    index = rows["feature_index"].to_pylist()
    first = [i for i, feature in enumerate(index) if i == 0 or feature != index[i - 1]]
    return rows.take(pa.array(first, pa.int64()))


def landed_beside(root: Path, facts: Mapping[str, Any]) -> list[StageOutcome]:
    """The other dictionaries that read and write the same hookpoints on the same corpus, by alias.

    Args:
        root: The catalogue.
        facts: Facts of the stage that stored a dictionary. For each alias the newest assignment counts: the
            one of the latest version of the catalogue, independent of clocks.
    """
    columns = ["fingerprint", "stage", "finished_at", "facts", "state"]
    ended = stored_rows(root, "stage_runs", columns, state="committed").sort_by("finished_at").to_pylist()
    slices = stored_rows(root, "slices", table_name="dictionaries").sort_by("committed_at").to_pylist()
    came = {row["fingerprint"]: row["committed_in"] or 0 for row in slices}
    ended.sort(key=lambda run: came.get(run["fingerprint"], 0))
    landed = ((run["fingerprint"], json.loads(run["facts"])) for run in ended if run["stage"] in _LANDING)
    newest = {found["alias"]: (fingerprint, found) for fingerprint, found in landed}
    outcomes = (
        Ledger(root).outcome(fingerprint)
        for alias, (fingerprint, found) in sorted(newest.items())
        if alias != facts["alias"] and _hookpoints(found) == _hookpoints(facts)
    )
    return [outcome for outcome in outcomes if outcome is not None]


def _hookpoints(facts: Mapping[str, Any]) -> list[Any]:
    sides = (
        [(point["model_id"], point["hookpoint"]) for point in facts[side]] for side in ("reads", "writes")
    )
    return [facts["corpus_id"], *sides]


def weights_folder(root: Path, dictionary: Mapping[str, Any]) -> Path:
    """The folder of a dictionary's weights, from its row or from the facts of the stage that stored it.

    Raises:
        CatalogueError: when it names a folder outside the catalogue, or one reached through a link.
    """
    return blob_folder(root, dictionary["weights_uri"], "the weights folder")


def stored_dictionary(root: Path, facts: Mapping[str, Any], device: str) -> "Dictionary":
    """A dictionary of the catalogue with its weights on the device of the run.

    Raises:
        CatalogueError: when its weights lie outside the catalogue, or are reached through a link.
    """
    from tasks.common.device import choose_device
    from tasks.dictionaries.weights import load_dictionary

    return load_dictionary(weights_folder(root, facts)).to(choose_device(device))


def shards_folder(root: Path, point: Mapping[str, Any]) -> Path:
    """The folder of the shards of an activation set.

    Raises:
        CatalogueError: when it names a folder outside the catalogue, or one reached through a link.
    """
    return blob_folder(root, point["uri"], "the activation folder")


def open_sets(
    root: Path,
    facts: Mapping[str, Any],
    models: Sequence[ModelConfig] | None = None,
    device: str = "auto",
) -> "HookpointActivations":
    """The activation sets that a dictionary reads and writes.

    Args:
        root: The catalogue.
        facts: ``reads`` and ``writes`` of the dictionary: mappings with ``model_id`` and ``uri``.
        models: The models of these sets; then every byte is checked and damaged shards are recomputed.
           Without them a damaged shard is an error once it is read.
        device: Where a model runs if shards are damaged.
    """
    from tasks.activations.caching.cache import open_intact
    from tasks.activations.reading.shards import ActivationSet
    from tasks.dictionaries.hookpoint_activations import HookpointActivations

    by_id = {model.id: model for model in models or ()}

    def open_set(point: Mapping[str, str]) -> ActivationSet:
        folder = shards_folder(root, point)
        return open_intact(folder, by_id[point["model_id"]], device) if by_id else ActivationSet.open(folder)

    writes = facts["writes"] if facts["writes"] != facts["reads"] else ()
    return HookpointActivations([open_set(s) for s in facts["reads"]], [open_set(s) for s in writes] or None)
