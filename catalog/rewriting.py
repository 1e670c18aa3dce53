"""Data files with rows that are changed or left out, and what the ledger then says of their slices."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.changes import Change, read_rows, share_files
from catalog.parquet_io import DataFile, write_file
from catalog.rows import conform
from catalog.schemas import TABLES, TableSpec
from catalog.snapshot import Snapshot

_OF_FILES = ("files", "file_rows", "file_bytes", "sha256")
_FACTS = ("featlas.fingerprint", "featlas.slice")

Alter = Callable[[pa.Table], pa.Table]
"""Some rows of a file, with all columns of the table, to the rows that take their place in the same order."""


@dataclass
class Rewriting:
    """The changes of one commit that rewrites files: per table what is added and removed."""

    base: Snapshot
    changes: dict[str, Change] = field(default_factory=dict)
    replaced: dict[str, DataFile | None] = field(default_factory=dict)
    """Path of each file that was rewritten, and the file that took its place; None if no row is left."""

    def rewrite(self, table: str, files: Sequence[DataFile], alter: Alter) -> None:
        """Write ``files`` again with the rows that ``alter`` makes of theirs, a row group at a time."""
        spec, root = TABLES[table], self.base.root
        change = self.changes.setdefault(table, Change(table))
        for file in files:
            pieces = (altered for piece in _pieces(root, file, spec) if (altered := alter(piece)).num_rows)
            first = next(pieces, None)
            written = None
            if first is not None:
                facts = _facts(root / file.path)
                written = write_file(root, spec, chain([first], pieces), dict(file.partition), facts)
                change.add.append(written)
            change.remove.append(file)
            self.replaced[file.path] = written

    def add(self, table: str, rows: pa.Table) -> None:
        """Add rows to a table whose slices share files, in place of those of their subject."""
        change = share_files(self.base, table, rows)
        mine = self.changes.setdefault(table, Change(table))
        mine.add += change.add
        mine.remove += change.remove

    def record(self, new: pa.Table, scrub: Alter) -> None:
        """Tell ``slices`` and ``stage_runs`` which rows and files the rewritten slices have now.

        ``new`` are the rows of ``slices`` for what was added; ``scrub`` also changes rows of ``runs`` and
        ``stage_runs``. A unit of work whose slices have fewer rows than it committed counts as lost, so the
        number that its newest attempt committed shrinks too.
        """
        rows, gone = self._slices()
        self.add("slices", pa.concat_tables([rows, new]))
        last = self._last_attempts(gone)
        self.alter("runs", scrub)
        self.alter("stage_runs", lambda table: scrub(_fewer_rows(table, gone, last)))

    def alter(self, table: str, alter: Alter) -> None:
        """Write those files of a small table again that ``alter`` changes."""
        spec, root = TABLES[table], self.base.root
        tables = {file.path: read_rows(root, file, spec) for file in self.base.files(table)}
        changed = [f for f in self.base.files(table) if not alter(tables[f.path]).equals(tables[f.path])]
        self.rewrite(table, changed, alter)

    def _slices(self) -> tuple[pa.Table, dict[str, int]]:
        """Rows of ``slices`` that change, and by fingerprint the number of rows that were left out."""
        spec = TABLES["slices"]
        changed = [spec.schema.empty_table().replace_schema_metadata(None)]
        gone: dict[str, int] = {}
        partitioned = [name for name in self.changes if TABLES[name].partition_by]
        for file in self.base.files("slices"):
            for row in read_rows(self.base.root, file, spec).to_pylist():
                if row["table_name"] not in partitioned or not set(row["files"]) & set(self.replaced):
                    continue
                renewed = self._renewed(row)
                lost = row["rows"] - renewed["rows"]
                if lost:
                    gone[row["fingerprint"]] = gone.get(row["fingerprint"], 0) + lost
                changed.append(pa.Table.from_pylist([renewed], schema=changed[0].schema))
        return conform(pa.concat_tables(changed), spec, common=True), gone

    def _renewed(self, row: Mapping[str, Any]) -> dict[str, Any]:
        kept: list[tuple[str, int, int, str]] = []
        for old in zip(*(row[name] for name in _OF_FILES), strict=True):
            new = self.replaced.get(old[0])
            if old[0] not in self.replaced:
                kept.append(old)
            elif new is not None:
                kept.append((new.path, new.rows, new.n_bytes, new.sha256))
        values = {name: [file[i] for file in kept] for i, name in enumerate(_OF_FILES)}
        return {**row, **values, "rows": sum(values["file_rows"]), "bytes": sum(values["file_bytes"])}

    def _last_attempts(self, fingerprints: Mapping[str, int]) -> dict[str, int]:
        last: dict[str, int] = {}
        for file in self.base.files("stage_runs"):
            rows = read_rows(self.base.root, file, TABLES["stage_runs"])
            columns = (rows[name].to_pylist() for name in ("fingerprint", "attempt", "state"))
            for fingerprint, attempt, state in zip(*columns, strict=True):
                if fingerprint in fingerprints and state == "committed":
                    last[fingerprint] = max(attempt, last.get(fingerprint, 0))
        return last


def _fewer_rows(table: pa.Table, gone: Mapping[str, int], last: Mapping[str, int]) -> pa.Table:
    columns = (table[name].to_pylist() for name in ("fingerprint", "attempt", "rows"))
    rows = [
        n_rows - gone[fingerprint] if last.get(fingerprint) == attempt else n_rows
        for fingerprint, attempt, n_rows in zip(*columns, strict=True)
    ]
    return with_column(table, "rows", pa.array(rows, pa.int64()))


def with_column(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """``table`` with other values in one of its columns."""
    return table.set_column(table.schema.get_field_index(name), table.schema.field(name), values)


def _pieces(root: Path, file: DataFile, spec: TableSpec) -> Iterator[pa.Table]:
    """The rows of a file in the present schema, some at a time, page checksums verified."""
    with pq.ParquetFile(root / file.path, page_checksum_verification=True) as parquet:
        for batch in parquet.iter_batches(spec.row_group_rows):
            table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
            known = [column.name for column in spec.columns if column.name in table.column_names]
            yield conform(table.select(known), spec, common=True)


def _facts(path: Path) -> dict[str, str]:
    """What the footer of a file says of its slice, so that ``featlas repair`` can rebuild a lost log."""
    metadata = pq.read_schema(path).metadata or {}
    return {name: metadata[name.encode()].decode() for name in _FACTS if name.encode() in metadata}
