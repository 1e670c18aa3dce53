"""Parquet files of the catalogue: zstd, page checksums, chosen row groups, content-addressed, durable.

A file is named ``v<schema version>-<8 random hex>-<sha256>.parquet``: the name says which columns the
file has, and the hash of its bytes. Two commits never share a name.
"""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.durable import flush_folder, make_folder, temporary_beside
from catalog.errors import CatalogueError
from catalog.faults import fault_point
from catalog.schemas import TableSpec

FILE_NAME = re.compile(r"v(?P<version>\d+)-[0-9a-f]{8}-(?P<sha256>[0-9a-f]{64})\.parquet")


@dataclass(frozen=True, slots=True)
class DataFile:
    """One live data file: path relative to the catalogue, size, partition values (slugs)."""

    path: str
    rows: int
    n_bytes: int
    partition: dict[str, str] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """The hash of the file's bytes according to its name."""
        return _named(self.path)["sha256"]

    @property
    def schema_version(self) -> int:
        """Version of the table's schema when the file was written."""
        return int(_named(self.path)["version"])


def _named(path: str) -> re.Match[str]:
    match = FILE_NAME.fullmatch(path.rpartition("/")[2])
    if match is None:
        raise CatalogueError(f"{path} is not a data file of a featlas catalogue: its name has another form")
    return match


class _HashingFile:
    """A binary file that computes the SHA-256 of what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.n_bytes = 0
        self.closed = False

    def write(self, data: Any) -> int:
        fault_point("parquet.write")
        view = memoryview(data).cast("B")
        self.sha256.update(view)
        self.n_bytes += len(view)
        self._file.write(view)
        return len(view)

    def flush(self) -> None:
        self._file.flush()

    def tell(self) -> int:
        return self.n_bytes

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


def write_file(
    root: Path,
    spec: TableSpec,
    batches: Iterable[pa.Table],
    partition: dict[str, str],
    facts: dict[str, str],
) -> DataFile:
    """Write ``batches`` (tables of the full schema, in order) as one durable data file.

    Args:
        root: Folder of the catalogue.
        spec: Table the file belongs to.
        batches: What to write; it is regrouped into row groups of ``spec.row_group_rows``.
        partition: Partition values, which also name the folders.
        facts: Stored in the footer with table name and version, so that a lost log can be rebuilt.
    """
    folder = root / spec.name
    for name, value in partition.items():
        folder = folder / f"{name}={value}"
    make_folder(folder)
    temporary = temporary_beside(folder / "part.parquet")
    footer = {
        "featlas.table": spec.name,
        "featlas.version": str(spec.version),
        "featlas.partition": json.dumps(partition, sort_keys=True),
        **facts,
    }
    rows = 0
    try:
        with temporary.open("xb") as file:
            sink = _HashingFile(file)
            schema = spec.schema.with_metadata(footer)
            with pq.ParquetWriter(
                pa.PythonFile(sink, mode="w"), schema, compression="zstd", write_page_checksum=True
            ) as writer:
                for group in _regroup(batches, spec.row_group_rows):
                    writer.write_table(group.cast(schema), row_group_size=spec.row_group_rows)
                    rows += group.num_rows
            file.flush()
            fault_point("parquet.fsync")
            os.fsync(file.fileno())
        name = f"v{spec.version}-{secrets.token_hex(4)}-{sink.sha256.hexdigest()}.parquet"
        fault_point("parquet.rename")
        temporary.rename(folder / name)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(folder)
    path = (folder / name).relative_to(root).as_posix()
    return DataFile(path, rows, sink.n_bytes, dict(partition))


def read_file(root: Path, path: str, columns: list[str] | None = None) -> pa.Table:
    """One data file with page checksums verified.

    Raises:
        CatalogueError: naming the file if it is missing, truncated or altered.
    """
    try:
        with pq.ParquetFile(root / path, page_checksum_verification=True) as file:
            return file.read(columns)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise CatalogueError(f"data file {path} cannot be read: {reason}; run `featlas repair`") from error


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _regroup(batches: Iterable[pa.Table], n_rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of exactly ``n_rows``; the last one may be shorter."""
    waiting: list[pa.Table] = []
    n_waiting = 0
    for batch in batches:
        waiting.append(batch)
        n_waiting += batch.num_rows
        if n_waiting < n_rows:
            continue
        joined = pa.concat_tables(waiting)
        n_full = n_waiting - n_waiting % n_rows
        for start in range(0, n_full, n_rows):
            yield joined.slice(start, n_rows)
        waiting, n_waiting = [joined.slice(n_full)], n_waiting - n_full
    if n_waiting:
        yield pa.concat_tables(waiting)
