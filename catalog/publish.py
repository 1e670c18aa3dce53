"""Views for a plain DuckDB shell, over explicit files: ``catalogue.sql`` and ``catalogue.duckdb``.

Paths are relative, so the folder can move: start the shell in the catalogue's folder, or run
``SET file_search_path = '/path/to/catalogue'`` first. An older version never replaces a newer one.
"""

import atexit
import os
import re
from pathlib import Path
from threading import Lock

from filelock import FileLock

from catalog.durable import flush_file, flush_folder, replace_file, said_plainly, temporary_beside
from catalog.faults import fault_point
from catalog.relations import quoted
from catalog.snapshot import FOLDER, Snapshot
from catalog.view_making import Made, create_views

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
        statements = _writer().write(snapshot, temporary)
        flush_file(temporary)
        fault_point("publish.duckdb")
        temporary.replace(path)
        flush_folder(path.parent)
    except duckdb.IOException as error:
        raise OSError(str(error).splitlines()[0]) from error
    finally:
        temporary.unlink(missing_ok=True)
    return statements


class _ViewWriter:
    """Keeps the last published views in memory and creates only those that a new version changes.

    A version changes few tables, and the comments of all tables are hundreds of statements.
    """

    def __init__(self) -> None:
        import duckdb

        self.connection = duckdb.connect(config={"threads": 1})  # no extra threads: a fork is safe
        self.made: Made = {}
        self.lock = Lock()

    def write(self, snapshot: Snapshot, path: Path) -> list[str]:
        """Write the views of a version as a database file; return the statements that create them."""
        with self.lock:
            try:
                self.connection.execute(f"SET file_search_path = {quoted(str(snapshot.root))}")
                statements = self._views(snapshot)
                attached = f"ATTACH {quoted(str(path))} AS published (STORAGE_VERSION '{STORAGE_VERSION}')"
                self.connection.execute(attached)
                try:
                    self.connection.execute("COPY FROM DATABASE memory TO published (SCHEMA)")
                finally:
                    self.connection.execute("DETACH published")
            except BaseException:
                _writers.pop(os.getpid(), None)
                raise
            return statements

    def _views(self, snapshot: Snapshot) -> list[str]:
        """Create the views in one transaction; create them one by one if a damaged file would abort that."""
        import duckdb

        made = dict(self.made)
        self.connection.execute("BEGIN TRANSACTION")
        try:
            statements, _ = create_views(self.connection, snapshot, with_comments=True, made=made)
            self.connection.execute("COMMIT")
        except duckdb.TransactionException:
            self.connection.execute("ROLLBACK")
            made = {}
            statements, _ = create_views(self.connection, snapshot, with_comments=True, made=made)
        self.made = made
        return statements


_writers: dict[int, _ViewWriter] = {}
atexit.register(_writers.clear)  # DuckDB warns of connections that outlive the interpreter


def _writer() -> _ViewWriter:
    """The writer of this process; a forked process gets a new one."""
    found = _writers.get(os.getpid())
    return found if found is not None else _writers.setdefault(os.getpid(), _ViewWriter())
