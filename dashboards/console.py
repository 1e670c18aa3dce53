"""The SQL console: a visitor's query runs in a contained process; its rows become a table and two files."""

import itertools
import json
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from functools import cached_property
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import streamlit as st

from catalog.contained import ContainedResult, run_contained
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
_PLAIN = (bool, int, float, str, datetime, date, time, Decimal, bytes)


@dataclass(frozen=True)
class Answer:
    """The outcome of one query: a table, or an error; ``number`` tells one answer from the next."""

    number: int
    table: pa.Table | None
    error: str | None
    seconds: float
    truncated: bool

    @cached_property
    def csv(self) -> bytes:
        """The rows as CSV; nested values as JSON."""
        out = BytesIO()
        pyarrow.csv.write_csv(self._flat(), out)
        return out.getvalue()

    @cached_property
    def parquet(self) -> bytes:
        """The rows as Parquet."""
        out = BytesIO()
        pyarrow.parquet.write_table(self.table, out)
        return out.getvalue()

    def _flat(self) -> pa.Table:
        assert self.table is not None
        names = self.table.column_names
        flat = [
            _flat_column(column) if pa.types.is_nested(column.type) else column
            for column in self.table.columns
        ]
        return pa.Table.from_arrays(flat, names=names)


def ask(catalogue: data.Catalogue, sql: str) -> Answer:
    """Run ``sql`` contained; a user's error becomes the answer's sentence.

    The last few answers are kept, for everybody: drawing the page again does not run the query again.
    """
    return _answer(catalogue.root, catalogue.version, sql)


def forget(sql: str) -> None:
    """Run ``sql`` the next time it is asked, even if its answer is kept."""
    catalogue = data.current()
    _answer.clear(catalogue.root, catalogue.version, sql)


@st.cache_resource(max_entries=ANSWERS_KEPT, ttl=ANSWER_SECONDS, show_spinner=False)
def _answer(root: str, version: int, sql: str) -> Answer:
    if not sql.strip():
        said = "Write a query first, or pick one of the examples above."
        return Answer(next(_NUMBERS), None, said, 0.0, False)
    folder = catalogue_root(root)
    snapshot = read_snapshot(folder, version) if version else None
    try:
        result = run_contained(folder, sql, snapshot=snapshot)
    except UserError as error:
        return Answer(next(_NUMBERS), None, str(error), 0.0, False)
    return Answer(next(_NUMBERS), table_of(result), None, result.seconds, result.truncated)


def table_of(result: ContainedResult) -> pa.Table:
    """The rows as an Arrow table; equal column names are numbered, mixed columns become text."""
    seen: dict[str, int] = {}
    names, arrays = [], []
    for position, name in enumerate(result.columns):
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
        arrays.append(_array([row[position] for row in result.rows]))
    return pa.Table.from_arrays(arrays, names=names)


def _array(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array(
            [None if value is None else value if isinstance(value, str) else _text(value) for value in values]
        )


def _flat_column(column: pa.ChunkedArray) -> pa.Array:
    return pa.array([None if value is None else _text(value) for value in column.to_pylist()], pa.string())


def _text(value: Any) -> str:
    return str(value) if isinstance(value, _PLAIN) else json.dumps(value, default=str, ensure_ascii=False)


def relations() -> list[str]:
    """Views first, then tables: what a query may read from."""
    return [name for name, _ in derived_views()] + list(TABLES)


def columns(catalogue: data.Catalogue, relation: str) -> list[tuple[str, str, str]]:
    """Name, type in plain words and meaning of the columns of a table or view."""
    specs = [TABLES[relation]] if relation in TABLES else list(TABLES.values())
    meanings = {c.name: c.description for spec in specs for c in spec.columns}
    return [
        (row["column_name"], type_name(row["data_type"]), meanings.get(row["column_name"], ""))
        for row in data.rows(catalogue, "columns", relation=relation)
    ]


def type_name(kind: str) -> str:
    """A DuckDB type in plain words."""
    if kind.endswith("[]"):
        return f"list of {type_name(kind[:-2])}"
    return _TYPE_NAMES.get(kind.split("(")[0], kind.lower())
