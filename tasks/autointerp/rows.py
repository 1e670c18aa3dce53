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


def call_rows(records: list[dict[str, Any]], run_id: str | None) -> list[dict[str, Any]]:
    """Rows of ``llm_calls``; the time of a call is that of the record it came with."""
    rows = {}
    for record in records:
        for call in record["calls"]:
            rows[call["call_id"]] = {**call, "run_id": run_id, "created_at": record["finished_at"]}
    return list(rows.values())


def money(calls: list[dict[str, Any]]) -> dict[str, Any]:
    """The cost of the calls of this stage; cached ones are free."""
    return {
        "n_calls": len(calls),
        "n_cached": sum(call["cached"] for call in calls),
        "cost_usd": sum(call["cost_usd"] for call in calls),
    }
