"""Which data files can be read; readers, writers and the ledger skip the others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.errors import CatalogueError
from catalog.parquet_io import DataFile, hash_file, read_file
from catalog.snapshot import Snapshot
from catalog.untrusted import has_link

FaultOf = Callable[[Path, DataFile], str | None]


@dataclass(frozen=True, slots=True)
class Damage:
    """A live data file that is missing or damaged; its rows are not in the views."""

    table: str
    path: str
    rows: int
    reason: str


def size_fault(root: Path, file: DataFile) -> str | None:
    """The fault of a file according to its name and size."""
    path = root / file.path
    try:
        n_bytes = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    if n_bytes != file.n_bytes:
        return f"has {n_bytes} bytes, but {file.n_bytes} were committed"
    return "is reached through a link" if has_link(root, path) else None


def footer_fault(root: Path, file: DataFile) -> str | None:
    """The fault of a file according to its footer."""
    reason = size_fault(root, file)
    if reason is None and footer(root / file.path) is None:
        return "has no readable footer"
    return reason


def content_fault(root: Path, file: DataFile) -> str | None:
    """The fault of a file after reading every byte and page checksum."""
    reason = footer_fault(root, file)
    if reason is not None:
        return reason
    if hash_file(root / file.path) != file.sha256:
        return "was altered: its SHA-256 is not that of its name"
    try:
        read_file(root, file.path)
    except CatalogueError as error:
        return str(error)
    return None


def footer(path: Path) -> pq.FileMetaData | None:
    """The footer of a Parquet file; None if it cannot be read."""
    try:
        return pq.read_metadata(path)
    except (OSError, pa.ArrowException):
        return None


def sound_files(
    snapshot: Snapshot, table: str, fault_of: FaultOf, left_out: Mapping[str, str] | None = None
) -> tuple[list[DataFile], list[Damage]]:
    """Live files of a table that can be read, and the others with the reason.

    Args:
        snapshot: Version of the catalogue.
        table: A table.
        fault_of: How thoroughly to check.
        left_out: Path → reason of files that are known to be damaged.
    """
    sound, damaged = [], []
    for file in snapshot.files(table):
        reason = (left_out or {}).get(file.path) or fault_of(snapshot.root, file)
        if reason is None:
            sound.append(file)
        else:
            damaged.append(Damage(table, file.path, file.rows, reason))
    return sound, damaged
