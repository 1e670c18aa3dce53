"""Which files a commit adds to a table and which it removes.

Partitioned tables hold one file per partition; a slice replaces the partitions of its subject. The other
tables are small or grow by small slices: their rows share files. New rows go into a file of their own
until ``MERGE_AT`` small files have gathered, which then become one; rows that are replaced are cut out by
rewriting the files they are in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from catalog.parquet_io import DataFile, read_file, write_file
from catalog.rows import conform
from catalog.schemas import TABLES, TableSpec
from catalog.slices import sorted_rows
from catalog.snapshot import Snapshot

MERGE_AT = 32
SMALL_ROWS = 20_000
SMALL_BYTES = 32 * 2**20
REPLACED_BY = {"slices": ("table_name", "slice")}


@dataclass
class Change:
    """What one commit does to one table."""

    table: str
    add: list[DataFile] = field(default_factory=list)
    remove: list[DataFile] = field(default_factory=list)


def replace_partitions(snapshot: Snapshot, table: str, subject: str, add: Sequence[DataFile]) -> Change:
    """The files ``add`` take the place of all files of ``subject`` (a slug)."""
    return Change(table, list(add), snapshot.files(table, subject=subject))


def share_files(snapshot: Snapshot, table: str, rows: pa.Table) -> Change:
    """Add ``rows`` to an unpartitioned table.

    In an append-only table, rows whose key is there already are left out; in the others (and in
    ``slices``) the new rows replace those of the same subject.
    """
    spec = TABLES[table]
    live = snapshot.files(table)
    replaced_by = REPLACED_BY.get(table, () if spec.append_only else ("subject",))
    if replaced_by:
        rewritten = _files_with(snapshot.root, live, rows, replaced_by)
    else:
        rewritten = []
        rows = _new_keys(snapshot.root, live, rows, spec)
    if rows.num_rows == 0 and not rewritten:
        return Change(table)
    small = [f for f in live if f.rows < SMALL_ROWS and f.n_bytes < SMALL_BYTES]
    merged = list(rewritten)
    if rewritten or len(small) >= MERGE_AT:
        merged += [f for f in small if f not in rewritten]
    kept = [_without(read_rows(snapshot.root, f, spec), rows, replaced_by) for f in merged]
    table_rows = sorted_rows(pa.concat_tables([*kept, rows]), spec)
    if table_rows.num_rows == 0:
        return Change(table, [], merged)
    return Change(table, [write_file(snapshot.root, spec, [table_rows], {}, {})], merged)


def merge_small(snapshot: Snapshot, table: str) -> Change:
    """The same rows in fewer files; an empty change where there is nothing to gain."""
    spec = TABLES[table]
    if spec.partition_by:
        return Change(table)
    outdated = [f for f in snapshot.files(table) if f.schema_version != spec.version]
    small = [f for f in snapshot.files(table) if f.rows < SMALL_ROWS and f.n_bytes < SMALL_BYTES]
    merged = list({f.path: f for f in (*outdated, *small)}.values())
    if len(merged) < 2 and not outdated:
        return Change(table)
    rows = sorted_rows(pa.concat_tables([read_rows(snapshot.root, f, spec) for f in merged]), spec)
    return Change(table, [write_file(snapshot.root, spec, [rows], {}, {})], merged)


def read_rows(root: Path, file: DataFile, spec: TableSpec) -> pa.Table:
    """A data file in the present schema; columns it is too old for are null."""
    table = read_file(root, file.path)
    known = [column.name for column in spec.columns if column.name in table.column_names]
    return conform(table.select(known).replace_schema_metadata(None), spec, common=True)


def _without(table: pa.Table, rows: pa.Table, key: Sequence[str]) -> pa.Table:
    if not key or not rows.num_rows:
        return table
    positions = pa.array(range(table.num_rows), pa.int64())
    keys = table.select(list(key)).append_column("_position", positions)
    gone = rows.select(list(key)).group_by(list(key)).aggregate([])
    kept = keys.join(gone, list(key), join_type="left anti")
    return table.take(kept.column("_position").combine_chunks().sort())


def _files_with(root: Path, files: Sequence[DataFile], rows: pa.Table, key: Sequence[str]) -> list[DataFile]:
    """Those of ``files`` that hold a row with one of the keys in ``rows``."""
    wanted = rows.select(list(key)).group_by(list(key)).aggregate([])
    found = []
    for file in files:
        present = read_file(root, file.path, list(key))
        if present.join(wanted, list(key), join_type="left semi").num_rows:
            found.append(file)
    return found


def _new_keys(root: Path, files: Sequence[DataFile], rows: pa.Table, spec: TableSpec) -> pa.Table:
    """``rows`` without those whose key one of ``files`` has."""
    key = list(spec.key)
    for file in files:
        if not rows.num_rows:
            break
        rows = _without(rows, read_file(root, file.path, key).cast(rows.select(key).schema), key)
    return rows
