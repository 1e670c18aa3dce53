"""The catalogue: its tables, and how to write and read them.

It needs only Arrow, DuckDB, pydantic and the table-log library; no torch, no Prefect, no Streamlit.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from catalog.snapshot import Snapshot

__all__ = ["connect"]


def connect(
    uri: str | Path | None = None,
    *,
    snapshot: "Snapshot | None" = None,
    left_out: Mapping[str, str] | None = None,
    comments: bool = True,
) -> "DuckDBPyConnection":
    """``catalog.connection.connect``, which describes the arguments, with comments for people."""
    from catalog import connection

    return connection.connect(uri, snapshot=snapshot, left_out=left_out, comments=comments)
