"""DuckDB on the catalogue: one view per table and the derived views, all from one version."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from catalog.relations import create_views
from catalog.settings import CatalogSettings, catalogue_root
from catalog.snapshot import Snapshot, newest_snapshot

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

T = TypeVar("T")


def connect(uri: str | Path | None = None, *, snapshot: Snapshot | None = None) -> "DuckDBPyConnection":
    """A connection of one's own, in memory, that sees one version of the catalogue.

    It trusts its caller. Rows of files that are missing or spoilt are left out; ``damaged_files`` names
    them and is empty in a sound catalogue. Threads must not share it: take ``connection.cursor()`` per call.

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
    _, damaged = create_views(connection, snapshot, f"{snapshot.root}/")
    connection.execute(
        'CREATE TABLE damaged_files (table_name VARCHAR, path VARCHAR, "rows" BIGINT, reason VARCHAR)'
    )
    if damaged:
        values = [[damage.table, damage.path, damage.rows, damage.reason] for damage in damaged]
        connection.executemany("INSERT INTO damaged_files VALUES (?, ?, ?, ?)", values)
    return connection


def read(ask: "Callable[[DuckDBPyConnection], T]", uri: str | Path | None = None) -> T:
    """What ``ask`` finds on a fresh connection; asked once more if a file vanished meanwhile.

    Readers hold no lock: ``vacuum`` may delete files of versions older than it was told to keep while a
    long query still reads them. The newest version has all its files, so the second try is on that.
    """
    import duckdb

    root = catalogue_root(uri)
    before = newest_snapshot(root)
    try:
        with connect(root, snapshot=before) as connection:
            return ask(connection)
    except (duckdb.IOException, FileNotFoundError):
        if newest_snapshot(root).version == before.version:
            raise
    with connect(root) as connection:
        return ask(connection)
