"""DuckDB on the catalogue: one view per table and the derived views, all from one version."""

from pathlib import Path
from typing import TYPE_CHECKING

from catalog.publish import view_statements
from catalog.settings import CatalogSettings, catalogue_root
from catalog.snapshot import Snapshot, newest_snapshot

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def connect(uri: str | Path | None = None, *, snapshot: Snapshot | None = None) -> "DuckDBPyConnection":
    """A connection of one's own, in memory, that sees one version of the catalogue.

    It trusts its caller. Threads must not share it: take ``connection.cursor()`` per call.

    Args:
        uri: Root folder; by default ``FEATLAS_CATALOG`` or ``./catalogue``. Tables that nothing was
            committed to are there and empty, in a missing folder all of them.
        snapshot: A version other than the newest.
    """
    import duckdb

    if snapshot is None:
        snapshot = newest_snapshot(catalogue_root(uri))
    settings = CatalogSettings()
    connection = duckdb.connect(
        config={"memory_limit": settings.memory_limit, "threads": settings.query_threads}
    )
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(";".join(view_statements(snapshot, f"{snapshot.root}/")))
    return connection
