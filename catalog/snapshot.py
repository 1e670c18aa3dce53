"""The catalogue-wide commit: ``_catalogue/N.json`` names one Delta version per table.

N only grows and is created with a hard link, so two writers cannot both have it. Whatever a table's log
holds beyond the version named in the newest N does not exist for readers.
"""

import json
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
from catalog.parquet_io import DataFile
from catalog.schemas import TABLES

FOLDER = "_catalogue"
FILE_LISTS = "files"


@dataclass(frozen=True)
class Snapshot:
    """One version of the whole catalogue; version 0 is the empty one."""

    root: Path
    version: int = 0
    tables: Mapping[str, int] = field(default_factory=dict)
    committed_at: datetime | None = None
    fingerprint: str = ""
    commit_id: str = ""

    def files(self, table: str, **partition: str | int) -> list[DataFile]:
        """Live data files of ``table``, those only whose partition values are as given.

        Raises:
            CatalogueError: for a table or partition column that does not exist.
        """
        if table not in TABLES:
            raise CatalogueError(f"there is no table {table!r}; tables are {', '.join(TABLES)}")
        strange = set(partition) - set(TABLES[table].partition_by)
        if strange:
            raise CatalogueError(f"table {table} is not partitioned by {', '.join(sorted(strange))}")
        if table not in self.tables:
            return []
        wanted = {name: str(value) for name, value in partition.items()}
        files = _file_list(self.root, table, self.tables[table])
        return [f for f in files if all(f.partition.get(name) == value for name, value in wanted.items())]

    def paths(self, table: str, **partition: str | int) -> list[str]:
        """Absolute paths of ``files(table, ...)``, ready for ``read_parquet($files)``."""
        return [str(self.root / file.path) for file in self.files(table, **partition)]


def versions(root: Path) -> list[int]:
    """Versions of the catalogue that are still described, oldest first."""
    try:
        names = os.listdir(root / FOLDER)
    except FileNotFoundError:
        return []
    stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return sorted(int(stem) for stem in stems if stem.isdigit())


def newest_snapshot(root: Path) -> Snapshot:
    """What readers see now; the empty snapshot where nothing was ever committed."""
    known = versions(root)
    return read_snapshot(root, known[-1]) if known else Snapshot(root)


def read_snapshot(root: Path, version: int) -> Snapshot:
    """The catalogue as it was at ``version``.

    Raises:
        CatalogueError: when that version is unknown or its file is damaged.
    """
    path = root / FOLDER / f"{version}.json"
    try:
        content = json.loads(path.read_bytes())
        return Snapshot(
            root,
            int(content["version"]),
            {str(name): int(number) for name, number in content["tables"].items()},
            datetime.fromisoformat(content["committed_at"]),
            str(content["fingerprint"]),
            str(content["commit_id"]),
        )
    except FileNotFoundError as error:
        raise CatalogueError(f"the catalogue at {root} has no version {version}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CatalogueError(f"{path} is damaged; run `featlas repair`") from error


def publish_snapshot(base: Snapshot, tables: Mapping[str, int], fingerprint: str, commit_id: str) -> Snapshot:
    """Commit ``tables`` on top of ``base`` or of whatever came after it; the last step of every commit.

    A table's version never goes back: where another writer got further, its version is kept, and it
    contains ours.
    """
    make_folder(base.root / FOLDER)
    while True:
        merged = dict(base.tables)
        for name, number in tables.items():
            merged[name] = max(number, merged.get(name, 0))
        for name, number in merged.items():
            _keep_file_list(base.root, name, number)
        snapshot = Snapshot(base.root, base.version + 1, merged, datetime.now(UTC), fingerprint, commit_id)
        if create_file(base.root / FOLDER / f"{snapshot.version}.json", _content(snapshot, base), "snapshot"):
            return snapshot
        base = newest_snapshot(base.root)


def _content(snapshot: Snapshot, previous: Snapshot) -> bytes:
    assert snapshot.committed_at is not None
    content: dict[str, Any] = {
        "version": snapshot.version,
        "previous": previous.version,
        "tables": dict(snapshot.tables),
        "committed_at": snapshot.committed_at.isoformat(),
        "fingerprint": snapshot.fingerprint,
        "commit_id": snapshot.commit_id,
    }
    return to_json(content)


def file_list_path(root: Path, table: str, version: int) -> Path:
    """Where the file list of a table's version is kept, so that readers need not replay its log."""
    return root / FOLDER / FILE_LISTS / table / f"{version}.json"


def kept_file_list(root: Path, table: str, version: int) -> list[DataFile] | None:
    """The kept list of a table's version; None when it is missing or damaged."""
    path = file_list_path(root, table, version)
    try:
        status = path.stat()
        return list(_parsed_list(str(path), status.st_ino, status.st_mtime_ns, status.st_size))
    except (OSError, ValueError, TypeError):
        return None


@lru_cache(maxsize=64)
def _parsed_list(path: str, inode: int, mtime_ns: int, size: int) -> tuple[DataFile, ...]:
    """A list never changes; inode, time and size tell it from one of a catalogue that was here before."""
    entries = json.loads(Path(path).read_bytes())
    return tuple(DataFile(path, rows, n_bytes, partition) for path, rows, n_bytes, partition in entries)


def replace_snapshot(base: Snapshot, tables: Mapping[str, int], fingerprint: str, commit_id: str) -> Snapshot:
    """Commit exactly ``tables`` after ``base``: for repairs, where a log may have become shorter."""
    for name, number in tables.items():
        _keep_file_list(base.root, name, number)
    snapshot = Snapshot(base.root, base.version + 1, dict(tables), datetime.now(UTC), fingerprint, commit_id)
    path = base.root / FOLDER / f"{snapshot.version}.json"
    if not create_file(path, _content(snapshot, base), "snapshot"):
        raise CatalogueError(f"{path} appeared during the repair; stop other writers and repair again")
    return snapshot


def _file_list(root: Path, table: str, version: int) -> list[DataFile]:
    kept = kept_file_list(root, table, version)
    return DeltaLog(root, table).files(version) if kept is None else kept


def _keep_file_list(root: Path, table: str, version: int) -> None:
    path = file_list_path(root, table, version)
    if path.exists():
        return
    make_folder(path.parent)
    entries = [[f.path, f.rows, f.n_bytes, f.partition] for f in DeltaLog(root, table).files(version)]
    replace_file(path, json.dumps(entries).encode(), "file_list")
