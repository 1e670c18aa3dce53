"""The SQL console: a visitor's query runs in a contained process, which writes its rows to files."""

import itertools
from dataclasses import dataclass

import pyarrow as pa
import streamlit as st

from catalog import queries
from catalog.contained import ContainedFiles, run_to_files
from catalog.errors import UserError
from catalog.relations import derived_views
from catalog.schemas import TABLES
from catalog.settings import catalogue_root
from catalog.snapshot import read_snapshot
from dashboards import data

ANSWERS_KEPT = 8
ANSWER_SECONDS = 600
_NUMBERS = itertools.count()
_TYPE_NAMES = {
    "VARCHAR": "text",
    "BOOLEAN": "yes or no",
    "INTEGER": "integer",
    "BIGINT": "integer",
    "HUGEINT": "integer",
    "FLOAT": "number",
    "DOUBLE": "number",
    "TIMESTAMP WITH TIME ZONE": "time (UTC)",
    "DATE": "date",
    "STRUCT": "struct",
    "MAP": "map",
}


@dataclass(frozen=True)
class Answer:
    """The outcome of one query: files, or an error; ``number`` distinguishes answers."""

    number: int
    files: ContainedFiles | None
    error: str | None

    def table(self) -> pa.Table:
        """The rows; the table refers to the bytes of the answer, nothing is copied."""
        assert self.files is not None
        table = pa.ipc.open_stream(self.files.arrow).read_all()
        table.validate(full=True)
        return table


def ask(catalogue: data.Catalogue, sql: str) -> Answer:
    """Run ``sql`` contained; a user's error becomes the sentence of the answer.

    The last few answers are cached for all visitors, so redrawing the page does not run the query again.
    """
    return _answer(catalogue.root, catalogue.version, sql)


def forget(sql: str) -> None:
    """Run ``sql`` at the next request, even if its answer is cached."""
    catalogue = data.current()
    _answer.clear(catalogue.root, catalogue.version, sql)


@st.cache_resource(max_entries=ANSWERS_KEPT, ttl=ANSWER_SECONDS, show_spinner=False)
def _answer(root: str, version: int, sql: str) -> Answer:
    if not sql.strip():
        return Answer(next(_NUMBERS), None, "Write a query first, or choose one of the examples above.")
    folder = catalogue_root(root)
    snapshot = read_snapshot(folder, version) if version else None
    try:
        return Answer(next(_NUMBERS), run_to_files(folder, sql, snapshot=snapshot), None)
    except UserError as error:
        return Answer(next(_NUMBERS), None, str(error))


def relations() -> list[str]:
    """Views first, then tables: what a query may read."""
    return [name for name, _ in derived_views()] + list(TABLES)


def note(relation: str) -> str:
    """A sentence about a table that nothing writes yet; empty for any other."""
    is_planned = relation in TABLES and TABLES[relation].planned
    return "Planned: nothing writes this table yet, so it is empty." if is_planned else ""


def columns(catalogue: data.Catalogue, relation: str) -> list[tuple[str, str, str]]:
    """Name, type in plain words and meaning of the columns of a table or view."""
    specs = [TABLES[relation]] if relation in TABLES else list(TABLES.values())
    meanings = {c.name: c.description for spec in specs for c in spec.columns}
    return [
        (row["column_name"], type_name(row["data_type"]), meanings.get(row["column_name"], ""))
        for row in data.rows(catalogue, queries.columns(relation=relation))
    ]


def type_name(kind: str) -> str:
    """A DuckDB type in plain words."""
    if kind.endswith("[]"):
        return f"list of {type_name(kind[:-2])}"
    return _TYPE_NAMES.get(kind.split("(")[0], kind.lower())
