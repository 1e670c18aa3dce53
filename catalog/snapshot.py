"""The commit of the catalogue: ``_catalogue/N.json`` names one Delta version per table.

N only grows, and a hard link creates the file, so two writers cannot both create it. Readers and writers
ignore everything in a table's log beyond the version that the newest N names. ``newest.json`` is a copy of
the newest N, so that a lost or altered N is noticed and can be restored.
"""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from catalog.delta_log import DeltaLog
from catalog.durable import create_file, make_folder, replace_file, to_json
from catalog.errors import CatalogueError
from catalog.ids import digest
from catalog.parquet_io import DataFile
from catalog.schemas import TABLES
from catalog.untrusted import count, data_file, read_json, table_name

logger = logging.getLogger(__name__)

FOLDER = "_catalogue"
FILE_LISTS = "files"
NEWEST = "newest.json"
CHECKSUM = "checksum"
_KEYS_OF_0_1 = {"version", "previous", "tables", "committed_at", "fingerprint", "commit_id"}


@dataclass(frozen=True)
class Snapshot:
    """One version of the catalogue; version 0 is the empty one.

    ``lists`` holds the digest of each table's file list; versions of 0.1 have none.
    """

    root: Path
    version: int = 0
    tables: Mapping[str, int] = field(default_factory=dict)
    committed_at: datetime | None = None
    fingerprint: str = ""
    commit_id: str = ""
    lists: Mapping[str, str] = field(default_factory=dict)

    def files(self, table: str, **partition: str | int) -> list[DataFile]:
        """Live data files of ``table``; with partition values only the files with these values.

        Raises:
            CatalogueError: for a table or partition column that does not exist.
        """
        if table not in TABLES:
            raise CatalogueError(f"there is no table {table!r}; tables are {', '.join(TABLES)}")
        strange = set(partition) - set(TABLES[table].partition_by)
        if strange:
            raise CatalogueError(f"table {table} is not partitioned by {', '.join(sorted(strange))}")
        wanted = {name: str(value) for name, value in partition.items()}
        files = self.all_files(table)
        return [f for f in files if all(f.partition.get(name) == value for name, value in wanted.items())]

    def all_files(self, table: str) -> list[DataFile]:
        """Live data files of a table, including one that only a newer featlas knows."""
        if table not in self.tables:
            return []
        kept = kept_file_list(self.root, table, self.tables[table], self.lists.get(table))
        return DeltaLog(self.root, table).files(self.tables[table]) if kept is None else kept

    def paths(self, table: str, **partition: str | int) -> list[str]:
        """Absolute paths of ``files(table, ...)``, ready for ``read_parquet($files)``."""
        return [str(self.root / file.path) for file in self.files(table, **partition)]


def versions(root: Path) -> list[int]:
    """Versions of the catalogue that still have a file, oldest first."""
    try:
        names = os.listdir(root / FOLDER)
    except FileNotFoundError:
        return []
    stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit() and len(stem) < 19)


def newest_snapshot(root: Path) -> Snapshot:
    """The version that readers see now; the empty snapshot if nothing was ever committed.

    Raises:
        CatalogueError: when the newest version is damaged or lost; an older one never silently replaces it.
    """
    copy = newest_copy(root)
    known = versions(root)
    latest = known[-1] if known else 0
    if copy is not None and copy.version > latest:
        raise CatalogueError(
            f"version {copy.version} of the catalogue at {root} is lost, the newest existing one is "
            f"{latest}; run `featlas repair`"
        )
    if not known:
        return Snapshot(root)
    snapshot = read_snapshot(root, latest)
    if copy is not None and copy.version == latest and copy.commit_id != snapshot.commit_id:
        raise CatalogueError(
            f"{root / FOLDER / NEWEST} and {latest}.json name different commits: parts of two catalogues are "
            "in one folder; run `featlas repair`"
        )
    return snapshot


def newest_copy(root: Path) -> Snapshot | None:
    """The copy of the newest version; None if there is none or it is damaged, which ``verify`` reports."""
    try:
        return _parsed(root, root / FOLDER / NEWEST)
    except (FileNotFoundError, CatalogueError):
        return None


def read_snapshot(root: Path, version: int) -> Snapshot:
    """The catalogue as it was at ``version``.

    Raises:
        CatalogueError: when that version is unknown or its file is damaged.
    """
    path = root / FOLDER / f"{version}.json"
    try:
        snapshot = _parsed(root, path)
    except FileNotFoundError as error:
        raise CatalogueError(f"the catalogue at {root} has no version {version}") from error
    if snapshot.version != version:
        raise CatalogueError(f"{path} is damaged; run `featlas repair`")
    return snapshot


def _parsed(root: Path, path: Path) -> Snapshot:
    content = read_json(path)
    damaged = CatalogueError(f"{path} is damaged; run `featlas repair`")
    if not isinstance(content, dict):
        raise damaged
    noted = content.pop(CHECKSUM, None)
    sound = set(content) == _KEYS_OF_0_1 if noted is None else noted == digest(content)
    if not sound:
        raise damaged
    try:
        return Snapshot(
            root,
            count(content["version"], path),
            {table_name(name, path): count(number, path) for name, number in content["tables"].items()},
            datetime.fromisoformat(content["committed_at"]),
            str(content["fingerprint"]),
            str(content["commit_id"]),
            {table_name(name, path): str(value) for name, value in content.get("lists", {}).items()},
        )
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise damaged from error


def publish_snapshot(base: Snapshot, tables: Mapping[str, int], fingerprint: str, commit_id: str) -> Snapshot:
    """Commit ``tables`` on top of ``base`` or of a later version; the last step of every commit.

    A table's version never goes back: if another writer committed a later one, that version is kept, and it
    contains ours.
    """
    make_folder(base.root / FOLDER)
    while True:
        merged = dict(base.tables)
        for name, number in tables.items():
            merged[name] = max(number, merged.get(name, 0))
        snapshot = _next(base, merged, fingerprint, commit_id)
        if snapshot is not None:
            return snapshot
        base = newest_snapshot(base.root)


def replace_snapshot(base: Snapshot, tables: Mapping[str, int], fingerprint: str, commit_id: str) -> Snapshot:
    """Commit exactly ``tables`` after ``base``: for repairs, which may shorten a log."""
    snapshot = _next(base, tables, fingerprint, commit_id)
    if snapshot is None:
        raise CatalogueError(
            f"version {base.version + 1} appeared during the repair; stop other writers and repair again"
        )
    return snapshot


def take_back_logs(newest: Snapshot) -> list[str]:
    """Take every log that is ahead of ``newest`` back to its files; the caller must hold the commit lock.

    A log is ahead after a kill and in a copy of a live catalogue. A log that cannot be read is left to
    ``featlas repair``. Returns the tables whose logs were taken back.
    """
    taken = []
    for table in dict.fromkeys((*TABLES, *newest.tables)):
        log = DeltaLog(newest.root, table)
        if log.newest_entry() <= newest.tables.get(table, -1):
            continue
        try:
            if log.show(newest.all_files(table), "taken back"):
                taken.append(table)
        except CatalogueError as error:
            logger.warning("%s", error)
    return taken


def put_back(snapshot: Snapshot, content: bytes) -> None:
    """Create the file of a lost version from its copy."""
    create_file(snapshot.root / FOLDER / f"{snapshot.version}.json", content, "snapshot")


def _next(base: Snapshot, tables: Mapping[str, int], fingerprint: str, commit_id: str) -> Snapshot | None:
    """The version after ``base``; None if another writer took the number first."""
    lists = {
        name: base.lists[name]
        if base.lists.get(name) and base.tables.get(name) == number
        else _keep_file_list(base.root, name, number)
        for name, number in tables.items()
    }
    now = datetime.now(UTC)
    snapshot = Snapshot(base.root, base.version + 1, dict(tables), now, fingerprint, commit_id, lists)
    content = _content(snapshot, base)
    if not create_file(base.root / FOLDER / f"{snapshot.version}.json", content, "snapshot"):
        return None
    replace_file(base.root / FOLDER / NEWEST, content, "newest")
    return snapshot


def _content(snapshot: Snapshot, previous: Snapshot) -> bytes:
    assert snapshot.committed_at is not None
    content: dict[str, Any] = {
        "version": snapshot.version,
        "previous": previous.version,
        "tables": dict(snapshot.tables),
        "lists": dict(snapshot.lists),
        "committed_at": snapshot.committed_at.isoformat(),
        "fingerprint": snapshot.fingerprint,
        "commit_id": snapshot.commit_id,
    }
    return to_json({**content, CHECKSUM: digest(content)})


def file_list_path(root: Path, table: str, version: int) -> Path:
    """The path of the file list of a table's version; with it readers need not replay the table's log."""
    return root / FOLDER / FILE_LISTS / table / f"{version}.json"


def kept_file_list(
    root: Path, table: str, version: int, expected: str | None = None
) -> list[DataFile] | None:
    """The stored list of a table's version; None if it is missing, damaged or has another digest.

    Raises:
        CatalogueError: when it names a file that cannot be a data file of the table.
    """
    path = file_list_path(root, table, version)
    try:
        status = path.stat()
        found, files = _parsed_list(str(path), table, status.st_ino, status.st_mtime_ns, status.st_size)
    except (OSError, ValueError):
        return None
    return list(files) if expected in {None, found} else None


@lru_cache(maxsize=64)
def _parsed_list(
    path: str, table: str, inode: int, mtime_ns: int, size: int
) -> tuple[str, tuple[DataFile, ...]]:
    """A list never changes; inode, time and size distinguish it from a list of another catalogue here."""
    try:
        entries = read_json(Path(path))
    except CatalogueError as error:
        raise ValueError("damaged") from error
    if not isinstance(entries, list) or any(not isinstance(e, list) or len(e) != 4 for e in entries):
        raise ValueError("damaged")
    return digest(entries), tuple(data_file(*entry, table=table, where=Path(path)) for entry in entries)


def _keep_file_list(root: Path, table: str, version: int) -> str:
    """Store the list of files that the log of a table has at ``version``; return its digest."""
    path = file_list_path(root, table, version)
    entries = [[f.path, f.rows, f.n_bytes, f.partition] for f in DeltaLog(root, table).files(version)]
    content = json.dumps(entries).encode()
    make_folder(path.parent)
    try:
        unchanged = path.read_bytes() == content
    except FileNotFoundError:
        unchanged = False
    if not unchanged:
        replace_file(path, content, "file_list")
    return digest(entries)
