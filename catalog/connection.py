"""DuckDB on the catalogue: one view per table and the derived views, all from one version."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from catalog.relations import create_views
from catalog.schemas import TABLES
from catalog.settings import catalog_settings, catalogue_root
from catalog.snapshot import Snapshot, newest_snapshot
from catalog.soundness import content_fault, sound_files

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

T = TypeVar("T")


def connect(
    uri: str | Path | None = None,
    *,
    snapshot: Snapshot | None = None,
    left_out: Mapping[str, str] | None = None,
    comments: bool = True,
) -> "DuckDBPyConnection":
    """A connection of one's own, in memory, that sees one version of the catalogue.

    It trusts its caller. Rows of files that are missing or spoilt are left out; ``damaged_files`` names
    them and is empty in a sound catalogue. Threads must not share it: take ``connection.cursor()`` per call.

    Args:
        uri: Root folder; by default ``FEATLAS_CATALOG`` or ``./catalogue``. Tables that nothing was
            committed to are there and empty, in a missing folder all of them.
        snapshot: A version other than the newest.
        left_out: Path → reason of files that are known to be damaged.
        comments: Whether tables, views and columns carry their meaning (``duckdb_columns()``); programs that
            never ask for it connect in half the time without.
    """
    import duckdb

    if snapshot is None:
        snapshot = newest_snapshot(catalogue_root(uri))
    settings = catalog_settings()
    connection = duckdb.connect(
        config={"memory_limit": settings.memory_limit, "threads": settings.query_threads}
    )
    connection.execute("SET TimeZone = 'UTC'")
    _, damaged = create_views(connection, snapshot, f"{snapshot.root}/", left_out, with_comments=comments)
    connection.execute(
        'CREATE TABLE damaged_files (table_name VARCHAR, path VARCHAR, "rows" BIGINT, reason VARCHAR)'
    )
    if damaged:
        values = [[damage.table, damage.path, damage.rows, damage.reason] for damage in damaged]
        connection.executemany("INSERT INTO damaged_files VALUES (?, ?, ?, ?)", values)
    return connection


def read(ask: "Callable[[DuckDBPyConnection], T]", uri: str | Path | None = None) -> T:
    """What ``ask`` finds on a fresh connection; asked again where a file vanished or turns out spoilt.

    Readers hold no lock: ``vacuum`` may delete files of versions older than it was told to keep while a
    long query still reads them. The newest version has all its files, so the second try is on that. A file
    whose inside is spoilt is found by its checksums and left out, as those that are missing are.
    """
    import duckdb

    root = catalogue_root(uri)
    before = newest_snapshot(root)
    try:
        with connect(root, snapshot=before, comments=False) as connection:
            return ask(connection)
    except (duckdb.Error, FileNotFoundError):
        newest = newest_snapshot(root)
        spoilt = {d.path: d.reason for name in TABLES for d in sound_files(newest, name, content_fault)[1]}
        if newest.version == before.version and not spoilt:
            raise
    with connect(root, snapshot=newest, left_out=spoilt, comments=False) as connection:
        return ask(connection)
