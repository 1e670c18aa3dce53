"""Views for a plain DuckDB shell, over explicit files: ``catalogue.sql`` and ``catalogue.duckdb``.

Paths are relative, so the folder can move: start the shell in the catalogue's folder, or run
``SET file_search_path = '/path/to/catalogue'`` first. An older version never replaces a newer one.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from catalog.durable import flush_file, flush_folder, replace_file, said_plainly, temporary_beside
from catalog.faults import fault_point
from catalog.relations import create_views, quoted
from catalog.snapshot import FOLDER, Snapshot

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SQL_FILE = "catalogue.sql"
DUCKDB_FILE = "catalogue.duckdb"
STORAGE_VERSION = "v1.0.0"
_HEADER = re.compile(rb"-- featlas catalogue version (\d+)\n")


def published_version(root: Path) -> int:
    """Version that the published views show; 0 if there are none."""
    try:
        with (root / SQL_FILE).open("rb") as file:
            match = _HEADER.match(file.readline())
    except FileNotFoundError:
        return 0
    return int(match[1]) if match and (root / DUCKDB_FILE).exists() else 0


def publish_views(snapshot: Snapshot) -> bool:
    """Write both files for ``snapshot`` unless they already show it or a newer one.

    Returns:
        Whether they were written.

    Raises:
        CatalogueError: when a write fails; the version itself stays valid.
    """
    root = snapshot.root
    if snapshot.version == 0 or published_version(root) >= snapshot.version:
        return False
    with (
        said_plainly("publish the views in", root, "the rows are committed, only the views are old"),
        FileLock(str(root / FOLDER / "publish.lock")),
    ):
        if published_version(root) >= snapshot.version:
            return False
        statements = _publish_duckdb(root / DUCKDB_FILE, snapshot)
        header = (
            f"-- featlas catalogue version {snapshot.version}\n"
            "-- start the shell in this folder: duckdb -init catalogue.sql\n"
            "-- from elsewhere: SET file_search_path = '/path/to/this/folder'; then .read catalogue.sql\n"
        )
        replace_file(root / SQL_FILE, (header + ";\n".join(statements) + ";\n").encode(), "publish")
    return True


def _publish_duckdb(path: Path, snapshot: Snapshot) -> list[str]:
    import duckdb

    temporary = temporary_beside(path)
    try:
        with duckdb.connect() as connection:
            connection.execute(f"SET file_search_path = {quoted(str(path.parent))}")
            attached = quoted(str(temporary))
            connection.execute(f"ATTACH {attached} AS published (STORAGE_VERSION '{STORAGE_VERSION}')")
            connection.execute("USE published")
            statements = _created(connection, snapshot)
            connection.execute("USE memory")
            connection.execute("DETACH published")
        flush_file(temporary)
        fault_point("publish.duckdb")
        temporary.replace(path)
        flush_folder(path.parent)
    except duckdb.IOException as error:
        raise OSError(str(error).splitlines()[0]) from error
    finally:
        temporary.unlink(missing_ok=True)
    return statements


def _created(connection: "DuckDBPyConnection", snapshot: Snapshot) -> list[str]:
    """Create the views in one transaction; create them one by one if a damaged file would abort that."""
    import duckdb

    connection.execute("BEGIN TRANSACTION")
    try:
        statements, _ = create_views(connection, snapshot, with_comments=True)
        connection.execute("COMMIT")
    except duckdb.TransactionException:
        connection.execute("ROLLBACK")
        statements, _ = create_views(connection, snapshot, with_comments=True)
    return statements
