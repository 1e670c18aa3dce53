"""What the catalogue holds of a document that is to be forgotten."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.parquet_io import DataFile
from catalog.schemas import TABLES
from catalog.snapshot import Snapshot

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Feature = tuple[str, str, int]
"""Dictionary, activation set, feature."""
_WORD = re.compile(r"\w{3,}")
_FAMILY = """
with recursive family(corpus_id) as (
    select $corpus_id
    union
    select case when c.corpus_id = f.corpus_id then c.parent_corpus_id else c.corpus_id end
    from corpora as c join family as f on f.corpus_id in (c.corpus_id, c.parent_corpus_id)
    where c.parent_corpus_id is not null
)
select corpus_id from family join documents using (corpus_id) where document_id = $document_id order by 1
"""
_SETS = (
    "select activation_set_id, uri from activation_sets where list_contains($corpora, corpus_id) order by 1"
)
_TOUCHED = """
select distinct dictionary_id, activation_set_id, feature_index
from examples
where document_id = $document_id and list_contains($sets, activation_set_id)
"""
_KEPT = f"""
select dictionary_id, activation_set_id, feature_index, string_agg(array_to_string(tokens, ''), ' ')
from examples
where document_id <> $document_id and list_contains($sets, activation_set_id)
    and (dictionary_id, activation_set_id, feature_index) in ({_TOUCHED})
group by all
"""
_OWN_LABELS = """
with labelled as (
    select document_id, unnest(map_values(labels)) as value
    from documents
    where list_contains($corpora, corpus_id)
)
select distinct value from labelled where document_id = $document_id and length(value) >= 3 and value not in (
    select value from labelled where document_id <> $document_id and value is not null
)
order by length(value) desc
"""


@dataclass(frozen=True)
class Evidence:
    """What the catalogue holds of a document."""

    corpora: Sequence[str]
    """The corpus; of one that grew, all its states that have the document."""
    document_id: str
    text: str
    sets: Mapping[str, str]
    """Activation sets of the corpus and their folders."""
    kept: Mapping[Feature, str]
    """Features with an example of the document, and the text of their other examples."""
    labels: Sequence[str] = ()
    """Values of its labels that no other document of the corpus has."""

    def unsupported(self, feature: Feature, text: str | None) -> bool:
        """Whether a text names a word of the document that no other example of the feature has.

        A word has three letters or digits at least; case does not matter.
        """
        mine, others = self.text.casefold(), self.kept[feature].casefold()
        return any(word in mine and word not in others for word in _WORD.findall((text or "").casefold()))


def evidence_of(connection: "DuckDBPyConnection", corpus_id: str, document_id: str, text: str) -> Evidence:
    """What the version that ``connection`` reads holds of a document."""
    names = {"corpus_id": corpus_id, "document_id": document_id}
    corpora = [corpus for (corpus,) in connection.execute(_FAMILY, names).fetchall()]
    sets = dict(connection.execute(_SETS, {"corpora": corpora}).fetchall())
    values = {"document_id": document_id, "sets": list(sets)}
    kept = {(d, s, int(f)): "" for d, s, f in connection.execute(_TOUCHED, values).fetchall()}
    kept |= {(d, s, int(f)): tokens for d, s, f, tokens in connection.execute(_KEPT, values).fetchall()}
    own = connection.execute(_OWN_LABELS, {"corpora": corpora, "document_id": document_id}).fetchall()
    return Evidence(corpora, document_id, text, sets, kept, [value for (value,) in own])


def token_places(snapshot: Snapshot, evidence: Evidence, context: Mapping[str, int]) -> dict[str, Any]:
    """Per set the places of the document's tokens: sequence × context length + position, ascending."""
    places: dict[str, list[npt.NDArray[np.int64]]] = {name: [] for name in evidence.sets}
    for file in files_about(snapshot, "sequences", "activation_set_id", list(evidence.sets)):
        with pq.ParquetFile(snapshot.root / file.path) as parquet:
            columns = ["activation_set_id", "sequence_index", "document_ids", "valid", "token_ids"]
            for batch in parquet.iter_batches(TABLES["sequences"].row_group_rows, columns=columns):
                mine, row, position = tokens_of(batch, evidence.document_id)
                mine &= np.asarray(batch["token_ids"].flatten()) >= 0
                name = batch["activation_set_id"][0].as_py()
                sequence = batch["sequence_index"].to_numpy()[row[mine]].astype(np.int64)
                places[name].append(sequence * context[name] + position[mine])
    none = np.zeros(0, np.int64)
    return {name: np.sort(np.concatenate([none, *parts])) for name, parts in places.items()}


def files_about(snapshot: Snapshot, table: str, column: str, values: Sequence[str]) -> list[DataFile]:
    """Live files of a table with a row whose ``column`` has one of ``values``."""
    return [
        file
        for file in snapshot.files(table)
        if values
        and pq.read_table(
            snapshot.root / file.path, columns=[column], filters=[(column, "in", values)], partitioning=None
        ).num_rows
    ]


def tokens_of(batch: pa.RecordBatch, document_id: str) -> tuple[Any, Any, Any]:
    """Of every token in a batch of sequences: whether it is the document's, its row, its position."""
    lengths = pc.list_value_length(batch["document_ids"]).to_numpy()
    row = np.repeat(np.arange(len(lengths)), lengths)
    position = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    mine = pc.equal(batch["document_ids"].flatten(), document_id).to_numpy(zero_copy_only=False)
    return mine, row, position
