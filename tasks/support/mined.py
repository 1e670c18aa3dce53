"""Mining in the catalogue: the rows it commits, and the earlier pass that it continues."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.damage import naming_damaged_files
from catalog.ids import slug
from catalog.ledger import Ledger
from catalog.parquet_io import DataFile
from catalog.store import TableStore
from catalog.untrusted import blob_folder
from tasks.support.policies import Results
from tasks.support.stored import (
    evidence_facts,
    evidence_ids,
    evidence_slice,
    evidence_subject,
    stored_rows,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.mining.earlier_pass import Continued
    from tasks.mining.miner import Mined

MINING, VERSION = "mine_examples", 4
_ROWS_AT_ONCE = 1_000_000


def mined_results(facts: Mapping[str, Any], mined: "Mined") -> Results:
    """The rows of four tables, and the folder that the pass over more documents goes on from."""
    rows = {
        "features": mined.features,
        "feature_neighbours": mined.neighbours,
        "examples": mined.examples,
        "document_firings": mined.by_document,
    }
    slices = [evidence_slice(table, facts, of_table) for table, of_table in rows.items()]
    told = {**evidence_facts(facts), **mined.counts}
    if mined.kept is None:
        return Results(slices, told)
    uri = _kept_uri(facts)
    return Results(slices, {**told, "kept": {"uri": uri, "n_tokens": mined.n_tokens}}, {uri: mined.kept})


def continued_mining(
    root: Path, facts: Mapping[str, Any], config: Mapping[str, Any], inputs: Any
) -> "Continued | None":
    """How mining goes on from passes over fewer documents; None where no pass can be continued.

    That is so for a corpus that does not grow, and a dictionary that reads several hookpoints or context.

    Args:
        root: The catalogue.
        facts: Of the dictionary on the set.
        config: How it is mined.
        inputs: What the dictionary reads.
    """
    from tasks.activations.reading.shards import ActivationSet
    from tasks.mining.earlier_pass import Continued

    corpora = stored_rows(root, "corpora", ["n_generations"], corpus_id=facts["corpus_id"])
    if corpora["n_generations"].to_pylist() in ([], [None]) or not isinstance(inputs, ActivationSet):
        return None
    earlier = _passes(root, facts, config)
    longest = sorted(earlier, key=lambda uri: -int(earlier[uri][1]["kept"]["n_tokens"]))
    by_folder = {blob_folder(root, uri, "the folder of an earlier pass"): earlier[uri] for uri in longest}
    there = tuple(folder for folder in by_folder if folder.is_dir())  # not of a set that lost a document
    return Continued(
        f"{facts['dictionary_id']} {VERSION}", there, lambda folder: _firings(root, *by_folder[folder])
    )


def _passes(
    root: Path, facts: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Folder → fingerprint and facts of the last pass of the dictionary over each other set, mined alike."""
    columns = ["fingerprint", "facts", "config", "finished_at", "stage", "state"]
    runs = stored_rows(root, "stage_runs", columns, stage=MINING, state="committed").sort_by("finished_at")
    found = {}
    for row in runs.to_pylist():
        told = json.loads(row["facts"])
        is_alike = json.loads(row["config"]) == config and told["dictionary_id"] == facts["dictionary_id"]
        if is_alike and "kept" in told:
            found[told["kept"]["uri"]] = (row["fingerprint"], told)
    found.pop(_kept_uri(facts), None)
    return found


def _firings(root: Path, fingerprint: str, facts: Mapping[str, Any]) -> "Iterator[pa.RecordBatch] | None":
    """The rows of ``document_firings`` that a pass committed; None if they are not all there any more."""
    if Ledger(root).outcome(fingerprint) is None:
        return None
    subject = slug(evidence_subject(**evidence_ids(facts)))
    return _batches(root, TableStore(root).files("document_firings", subject=subject))


def _batches(root: Path, files: Sequence[DataFile]) -> "Iterator[pa.RecordBatch]":
    import pyarrow.parquet as pq

    from tasks.mining.document_firings import DOCUMENT_FIRINGS_SCHEMA

    for file in files:
        with (
            naming_damaged_files(root, ["document_firings"]),
            pq.ParquetFile(root / file.path, read_dictionary=["document_id"]) as parquet,
        ):
            yield from parquet.iter_batches(_ROWS_AT_ONCE, columns=DOCUMENT_FIRINGS_SCHEMA.names)


def _kept_uri(facts: Mapping[str, Any]) -> str:
    """Inside the folder of the set, so that it lives as long as the set."""
    return f"{facts['reads'][0]['uri']}/mined/{slug(facts['dictionary_id'])}"
