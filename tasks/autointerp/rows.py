"""Records of the runner as Arrow tables in the catalogue's columns, ids included."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from catalog.schemas import TABLES

STORE_COLUMNS = ("fingerprint", "slice", "subject")


def schema_of(table: str) -> pa.Schema:
    """The columns of a catalogue table without those the store adds."""
    return pa.schema([field for field in TABLES[table].schema if field.name not in STORE_COLUMNS])


def table_of(table: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows sorted by the table's key; times given as ISO text become timestamps."""
    schema = schema_of(table)
    key = [name for name in TABLES[table].key if name not in STORE_COLUMNS]
    plain = [
        {**row, "created_at": datetime.fromisoformat(row["created_at"])} if "created_at" in row else dict(row)
        for row in rows
    ]
    plain.sort(key=lambda row: tuple(row[name] for name in key))
    return pa.Table.from_pylist(plain, schema=schema)


def now_text() -> str:
    """The time as ISO text in UTC."""
    return datetime.now(UTC).isoformat()
