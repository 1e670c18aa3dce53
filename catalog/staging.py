"""Slices on their way into the catalogue: written or checked, but not visible yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from catalog.errors import CatalogueError
from catalog.ids import slug
from catalog.parquet_io import DataFile
from catalog.rows import conform
from catalog.schemas import TABLES
from catalog.slices import SliceWrite, finished_rows, slice_name, stage_files


@dataclass(frozen=True)
class Staged:
    """One slice: files of a partitioned table, or rows that will share files with others."""

    write: SliceWrite
    name: str
    files: list[DataFile]
    rows: pa.Table | None

    @property
    def n_rows(self) -> int:
        """Rows of the slice."""
        return self.rows.num_rows if self.rows is not None else sum(f.rows for f in self.files)


Placed = tuple[Staged, list[DataFile]]
"""A slice and the files that hold its rows."""


def stage(root: Path, writes: Sequence[SliceWrite], fingerprint: str) -> list[Staged]:
    """Check all rows and write the files of partitioned tables; a failure leaves no files.

    Raises:
        CatalogueError: when rows do not fit or a subject comes twice.
    """
    subjects = [(write.table, write.subject) for write in writes]
    for table, subject in subjects:
        if subjects.count((table, subject)) > 1:
            raise CatalogueError(
                f"table {table} was given subject {subject!r} twice in one commit: join the rows"
            )
    staged: list[Staged] = []
    try:
        for write in writes:
            staged.append(_staged(root, write, fingerprint))  # noqa: PERF401 - known if the next one fails
    except BaseException:
        discard(root, [file for item in staged for file in item.files])
        raise
    return staged


def discard(root: Path, files: Sequence[DataFile]) -> None:
    """Delete files that no version names."""
    for file in files:
        (root / file.path).unlink(missing_ok=True)


def slice_rows(placed: Sequence[Placed], fingerprint: str, version: int) -> pa.Table:
    """The rows of ``slices`` for the files of a new version; slice and subject are those described."""
    now = datetime.now(UTC)
    rows = [
        {
            "table_name": item.write.table,
            "files": [f.path for f in files],
            "file_rows": [f.rows for f in files],
            "file_bytes": [f.n_bytes for f in files],
            "sha256": [f.sha256 for f in files],
            "rows": item.n_rows,
            "bytes": sum(f.n_bytes for f in files),
            "schema_version": item.write.spec.version,
            "committed_at": now,
            "committed_in": version,
            "fingerprint": fingerprint,
            "slice": item.name,
            "subject": slug(item.write.subject),
        }
        for item, files in placed
    ]
    spec = TABLES["slices"]
    return conform(pa.Table.from_pylist(rows, schema=spec.schema.remove_metadata()), spec, common=True)


def _staged(root: Path, write: SliceWrite, fingerprint: str) -> Staged:
    name = slice_name(write.subject, fingerprint)
    if write.spec.partition_by:
        return Staged(write, name, stage_files(root, write, fingerprint), None)
    rows = list(finished_rows(write, fingerprint))
    empty = conform(write.spec.schema.empty_table(), write.spec, common=True)
    return Staged(write, name, [], pa.concat_tables([empty, *rows]))
