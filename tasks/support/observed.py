"""What is stored about the documents of an activation set: their labels, their tokens, their firings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.damage import naming_damaged_files
from catalog.ids import slug
from catalog.ledger import StageOutcome
from catalog.schemas import TABLES
from catalog.store import TableStore
from tasks.support.policies import is_complete
from tasks.support.stored import evidence_ids, evidence_subject, open_sets, stored_documents, stored_rows

if TYPE_CHECKING:
    from tasks.observing.documents import FiringBlock, Ints
    from tasks.observing.top_contexts import TopContexts

_COLUMNS = ["feature_index", "document_id", "n_tokens", "max_activation"]
_ROWS_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Observed:
    """A dictionary on an activation set, and what was mined there."""

    landed: StageOutcome
    """Facts: ids of dictionary, set and corpus, and the sets that are read and written."""
    mined: StageOutcome

    @property
    def facts(self) -> Mapping[str, Any]:
        return self.landed.facts

    @property
    def subject(self) -> str:
        """The dictionary and the set, as the rows about them are called."""
        return evidence_subject(**evidence_ids(self.facts))


def label_counts(root: Path, corpus_id: str) -> dict[str, dict[str, int]]:
    """Label column → value → documents of a corpus, all in alphabetical order."""
    column = stored_documents(root, corpus_id, ["document_id", "labels"])["labels"].combine_chunks()
    if not len(column):
        return {}
    pairs = pa.table({"label": column.keys, "value": column.items}).filter(column.items.is_valid())
    counted = pairs.group_by(["label", "value"]).aggregate([([], "count_all")])
    counts: dict[str, dict[str, int]] = {}
    for row in counted.sort_by([("label", "ascending"), ("value", "ascending")]).to_pylist():
        counts.setdefault(row["label"], {})[row["value"]] = row["count_all"]
    return counts


def newest_documents(root: Path, corpus_id: str) -> int:
    """Documents that came last into a corpus after earlier ones; 0 if it has only its first."""
    (row,) = stored_rows(root, "corpora", ["n_generations"], corpus_id=corpus_id).to_pylist()
    if (row["n_generations"] or 1) == 1:
        return 0
    generation = stored_documents(root, corpus_id, ["generation"])["generation"]
    return int(pc.sum(pc.equal(generation, row["n_generations"])).as_py())


def observed_documents(root: Path, facts: Mapping[str, Any]) -> "tuple[pa.Table, Ints]":
    """Documents of the corpus without their texts, and the valid tokens that the set has of each document.

    Args:
        root: The catalogue.
        facts: Those of a dictionary on a set, with ``reads``, ``writes`` and ``corpus_id``.
    """
    from tasks.observing.documents import tokens_of_documents

    columns = ["document_id", "labels", "generation"]
    documents = stored_documents(root, facts["corpus_id"], columns).combine_chunks()
    tokens = open_sets(root, facts).inputs.tokens
    return documents, tokens_of_documents(tokens, documents.num_rows)


def stored_firings(root: Path, facts: Mapping[str, Any], documents: pa.Table) -> "Iterator[FiringBlock]":
    """Firings by document of a dictionary on a set, in blocks of complete features."""
    from tasks.observing.documents import firing_blocks

    return firing_blocks(_parts(root, facts), documents["document_id"].combine_chunks())


def stored_top_contexts(root: Path, facts: Mapping[str, Any]) -> "TopContexts":
    """The strongest contexts of every feature of a dictionary on a set, as characters of documents."""
    from tasks.observing.top_contexts import TOP, TopContexts

    subject = slug(evidence_subject(**evidence_ids(facts)))
    snapshot = TableStore(root).snapshot()
    files = snapshot.files("examples", dictionary_slug=slug(facts["dictionary_id"]), subject=subject)
    columns = ["feature_index", "document_id", "char_start", "char_end"]
    strongest = [("band", "=", "top"), ("rank", "<", TOP)]
    none = TABLES["examples"].schema.empty_table().select(columns)
    with naming_damaged_files(root, ["examples"]):
        parts = [
            pq.read_table(root / file.path, columns=columns, filters=strongest, partitioning=None)
            for file in files
        ]
    rows = pa.concat_tables([none.cast(none.schema.remove_metadata()), *(p.select(columns) for p in parts)])
    document_ids = stored_documents(root, facts["corpus_id"], ["document_id"])["document_id"].combine_chunks()
    document_W = pc.index_in(rows["document_id"], value_set=document_ids)
    numbers = (rows["feature_index"], document_W, rows["char_start"], rows["char_end"])
    return TopContexts(*(column.to_numpy().astype("int64") for column in numbers))


def is_explained(root: Path, outcome: StageOutcome) -> bool:
    """Whether a unit explained every feature, and no document was removed from its evidence since."""
    if not is_complete(outcome):
        return False
    rows = stored_rows(root, "explanations", ["stale_in"], fingerprint=outcome.fingerprint)
    stale_in = pc.max(rows["stale_in"]).as_py()
    if stale_in is None:
        return True
    slices = stored_rows(root, "slices", table_name="explanations", fingerprint=outcome.fingerprint)
    return bool(stale_in <= (pc.max(slices["committed_in"]).as_py() or 0))


def _parts(root: Path, facts: Mapping[str, Any]) -> Iterator[pa.Table]:
    subject = slug(evidence_subject(**evidence_ids(facts)))
    for file in TableStore(root).files("document_firings", subject=subject):
        with (
            naming_damaged_files(root, ["document_firings"]),
            pq.ParquetFile(root / file.path, read_dictionary=["document_id"]) as parquet,
        ):
            for batch in parquet.iter_batches(_ROWS_AT_ONCE, columns=_COLUMNS):
                yield pa.Table.from_batches([batch])
