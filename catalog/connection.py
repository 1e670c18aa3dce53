"""DuckDB on the catalogue: one view per table and the derived views, all from one version."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from catalog.schemas import TABLES
from catalog.settings import catalog_settings, catalogue_root
from catalog.snapshot import Snapshot, newest_snapshot
from catalog.soundness import content_fault, sound_files
from catalog.view_making import create_views

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

logger = logging.getLogger(__name__)

T = TypeVar("T")
_KEPT = {
    "commit_order": "table_name, place",
    "current_aliases": "alias",
    "dictionaries": "dictionary_id",
    "activation_sets": "activation_set_id",
    "explanation_scores": "dictionary_id, activation_set_id, feature_index, explanation_id",
    "feature_observations": "is_home desc, dictionary_id, activation_set_id, feature_index",
    "label_quality": "dictionary_id, activation_set_id",
    "dictionary_fidelity": "dictionary_id",
    "compared_dictionaries": "dictionary_id",
}


def connect(
    uri: str | Path | None = None,
    *,
    snapshot: Snapshot | None = None,
    left_out: Mapping[str, str] | None = None,
    comments: bool = False,
) -> "DuckDBPyConnection":
    """A new in-memory connection that reads one version of the catalogue.

    It trusts its caller. It skips rows of missing or damaged files; ``damaged_files`` names these files and
    is empty for an intact catalogue. Threads must not share a connection: take ``connection.cursor()`` in
    each.

    Args:
        uri: Root folder; by default ``FEATLAS_CATALOG`` or ``./catalogue``. Tables without any commit
            exist and are empty; so are all tables of a missing folder.
        snapshot: A version other than the newest.
        left_out: Path → reason of files that are known to be damaged.
        comments: Whether to comment tables, views and columns (``duckdb_columns()``); this takes as long as
            all the rest. ``catalog.connect`` does it for people.
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
    """The result of ``ask`` on a new connection; ask again if a file vanished or turns out to be damaged.

    Readers hold no lock: ``vacuum`` may delete files of old versions while a long query still reads them. The
    newest version has all its files, so the second try reads that. The checksums identify a file with damaged
    content, and it is skipped like a missing one.
    """
    import duckdb

    root = catalogue_root(uri)
    before = newest_snapshot(root)
    try:
        with connect(root, snapshot=before) as connection:
            return ask(connection)
    except (duckdb.Error, FileNotFoundError):
        newest = newest_snapshot(root)
        damaged = {d.path: d.reason for name in TABLES for d in sound_files(newest, name, content_fault)[1]}
        if newest.version == before.version and not damaged:
            raise
    with connect(root, snapshot=newest, left_out=damaged) as connection:
        return ask(connection)


def prepare(connection: "DuckDBPyConnection") -> None:
    """Make a connection fast for pages that query the same version of the catalogue many times.

    The connection caches the footers of Parquet files, which never change. It also stores the rows of some
    views and of the small tables that every page joins, under the same names, because DuckDB takes longer to
    plan nested views over Parquet files than to read a few rows. The rows are sorted, so that a query of few
    features skips the others. A view of damaged files stays a view: only queries that need it fail.
    """
    import duckdb

    connection.execute("set parquet_metadata_cache = true")
    for name, order in _KEPT.items():
        try:
            connection.execute(f"create table kept as from {name} order by {order}")
        except duckdb.Error as error:
            logger.warning("%s is not kept in memory: %s", name, str(error).splitlines()[0])
            continue
        connection.execute(f"drop view {name}")
        connection.execute(f"alter table kept rename to {name}")
