"""The files that a commit adds to a table and removes from it.

Partitioned tables hold one file per partition; a slice replaces the partitions of its subject. The other
tables are small or grow by small slices, so their slices share files. New rows go into a new file. When
``MERGE_AT`` small files exist, they are merged into one. To remove replaced rows, the files that hold them
are rewritten.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.parquet_io import DataFile, read_file, write_file
from catalog.rows import conform
from catalog.schemas import TABLES, TableSpec
from catalog.slices import sorted_rows
from catalog.snapshot import Snapshot
from catalog.soundness import footer_fault, sound_files

logger = logging.getLogger(__name__)

MERGE_AT = 32
"""A reader opens every file: at 32 a merge rewrites each row once in 32 commits."""
SMALL_ROWS = 20_000
"""Less than a third of a row group; a merge pays where row groups are far from full."""
SMALL_BYTES = 32 * 2**20
"""A merge of `MERGE_AT` files reads at most 1 GiB."""
REPLACED_BY = {"slices": ("table_name", "slice"), "scores": ("slice",), "judgements": ("slice",)}
"""Columns by which new rows replace earlier ones; a unit that runs again replaces its own scores."""


@dataclass
class Change:
    """The changes of one commit to one table."""

    table: str
    add: list[DataFile] = field(default_factory=list)
    remove: list[DataFile] = field(default_factory=list)


def replace_partitions(snapshot: Snapshot, table: str, subject: str, add: Sequence[DataFile]) -> Change:
    """The files in ``add`` replace all files of ``subject`` (a slug)."""
    return Change(table, list(add), snapshot.files(table, subject=subject))


def share_files(
    snapshot: Snapshot,
    table: str,
    rows: pa.Table,
    subjects: Sequence[str] | None = None,
    left_out: Mapping[str, str] | None = None,
) -> Change:
    """Add ``rows`` to an unpartitioned table.

    An append-only table skips rows whose key it already has. In tables of `REPLACED_BY` the new rows replace
    those of the same slice. In the other tables they replace those of ``subjects`` (slugs; by default those
    of the rows). Files that readers skip stay as they are, for ``featlas repair``, and so do those of
    ``left_out`` (path → reason).
    """
    spec = TABLES[table]
    live = _sound(snapshot, table, left_out)
    replaced = _replaced(spec, rows, subjects)
    if replaced is None:
        rewritten: list[DataFile] = []
        rows = _new_keys(snapshot.root, live, rows, spec)
    else:
        rewritten = _files_with(snapshot.root, live, replaced)
    if rows.num_rows == 0 and not rewritten:
        return Change(table)
    small = [f for f in live if f.rows < SMALL_ROWS and f.n_bytes < SMALL_BYTES]
    merged = list(rewritten)
    if rewritten or len(small) >= MERGE_AT:
        merged += [f for f in small if f not in rewritten]
    kept = [_without(read_rows(snapshot.root, f, spec), replaced) for f in merged]
    table_rows = sorted_rows(pa.concat_tables([*kept, rows]), spec)
    if table_rows.num_rows == 0:
        return Change(table, [], merged)
    return Change(table, [write_file(snapshot.root, spec, [table_rows], {}, {})], merged)


def merge_small(snapshot: Snapshot, table: str) -> Change:
    """The same rows in fewer files; an empty change if merging gains nothing."""
    spec = TABLES[table]
    if spec.partition_by:
        return Change(table)
    live = _sound(snapshot, table)
    outdated = [f for f in live if f.schema_version != spec.version]
    small = [f for f in live if f.rows < SMALL_ROWS and f.n_bytes < SMALL_BYTES]
    merged = list({f.path: f for f in (*outdated, *small)}.values())
    if len(merged) < 2 and not outdated:
        return Change(table)
    rows = sorted_rows(pa.concat_tables([read_rows(snapshot.root, f, spec) for f in merged]), spec)
    return Change(table, [write_file(snapshot.root, spec, [rows], {}, {})], merged)


def read_rows(root: Path, file: DataFile, spec: TableSpec) -> pa.Table:
    """A data file in the present schema; columns that the file does not have are null."""
    table = read_file(root, file.path)
    known = [column.name for column in spec.columns if column.name in table.column_names]
    return conform(table.select(known).replace_schema_metadata(None), spec, common=True)


def _sound(snapshot: Snapshot, table: str, left_out: Mapping[str, str] | None = None) -> list[DataFile]:
    sound, damaged = sound_files(snapshot, table, footer_fault, left_out)
    for damage in damaged:
        logger.warning("%s: %s %s; run `featlas repair`", table, damage.path, damage.reason)
    return sound


def _replaced(spec: TableSpec, rows: pa.Table, subjects: Sequence[str] | None) -> pa.Table | None:
    """Keys whose rows the new rows replace; None if nothing is ever replaced."""
    if spec.name in REPLACED_BY:
        key = list(REPLACED_BY[spec.name])
        return rows.select(key).group_by(key).aggregate([])
    if spec.append_only:
        return None
    names = rows.column("subject").unique().to_pylist() if subjects is None else list(subjects)
    return pa.table({"subject": pa.array(dict.fromkeys(names), pa.string())})


def _without(table: pa.Table, gone: pa.Table | None) -> pa.Table:
    """``table`` without the rows whose key is in ``gone``, in the same order."""
    if gone is None or not gone.num_rows:
        return table
    positions = pa.array(range(table.num_rows), pa.int64())
    keys = table.select(gone.column_names).append_column("_position", positions)
    kept = keys.join(gone, gone.column_names, join_type="left anti")
    return table.take(kept.column("_position").combine_chunks().sort())


def _files_with(root: Path, files: Sequence[DataFile], wanted: pa.Table) -> list[DataFile]:
    """The files in ``files`` that hold a row with one of the keys in ``wanted``."""
    found = []
    for file in files:
        present = read_file(root, file.path, wanted.column_names).cast(wanted.schema)
        if present.join(wanted, wanted.column_names, join_type="left semi").num_rows:
            found.append(file)
    return found


def _new_keys(root: Path, files: Sequence[DataFile], rows: pa.Table, spec: TableSpec) -> pa.Table:
    """``rows`` without those whose key is already in one of ``files``."""
    key = list(spec.key)
    lead = spec.sort_by[0]
    for file in files:
        if not rows.num_rows:
            break
        if _may_overlap(root / file.path, lead, rows.column(lead)):
            present = read_file(root, file.path, key).cast(rows.select(key).schema)
            rows = _without(rows, present.group_by(key).aggregate([]))
    return rows


def _may_overlap(path: Path, column: str, values: pa.ChunkedArray) -> bool:
    """Whether the range of ``column`` in a file's statistics overlaps the range of ``values``."""
    bounds = pc.min_max(values).as_py()
    footer = pq.read_metadata(path)
    index = next(i for i in range(footer.num_columns) if footer.schema.column(i).path == column)
    for group in range(footer.num_row_groups):
        statistics = footer.row_group(group).column(index).statistics
        if statistics is None or not statistics.has_min_max:
            return True
        if statistics.min <= bounds["max"] and bounds["min"] <= statistics.max:
            return True
    return False
