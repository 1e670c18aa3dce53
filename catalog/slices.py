"""The rows that a stage commits, and how they become rows and files that no reader sees yet."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import CatalogueError
from catalog.ids import N_HEX, slug
from catalog.parquet_io import DataFile, write_file
from catalog.rows import Constants, check_unique, conform
from catalog.schemas import FEATURES_PER_BLOCK, TABLES, TableSpec

BUFFER_BYTES = 256 * 2**20


@dataclass(frozen=True)
class SliceWrite:
    """Rows that one stage adds to one table.

    ``rows`` has the columns of the table without fingerprint, slice and subject. An iterable of record
    batches
    is streamed to disk with constant memory and must be sorted as the table is. ``subject`` says in readable
    text what the rows are about; in a replaceable table they replace all earlier rows of that subject.
    """

    table: str
    subject: str
    rows: pa.Table | Iterable[pa.RecordBatch]

    @property
    def spec(self) -> TableSpec:
        """Specification of the table.

        Raises:
            CatalogueError: for a table that does not exist.
        """
        if self.table not in TABLES:
            raise CatalogueError(f"there is no table {self.table!r}; tables are {', '.join(TABLES)}")
        return TABLES[self.table]


def slice_name(subject: str, fingerprint: str) -> str:
    """Slug of a slice: readable subject, and eight hex digits unique to subject and fingerprint."""
    readable = slug(subject).rpartition("-")[0]
    tag = hashlib.sha256(f"{subject}\n{fingerprint}".encode()).hexdigest()[:N_HEX]
    return f"{readable}-{tag}"


def finished_rows(write: SliceWrite, fingerprint: str) -> Iterator[pa.Table]:
    """The rows of ``write`` with every column of the table, checked, piece by piece."""
    spec = write.spec
    constants = Constants(
        fingerprint=fingerprint, slice=slice_name(write.subject, fingerprint), subject=slug(write.subject)
    )
    pieces = [write.rows] if isinstance(write.rows, pa.Table) else write.rows
    for piece in pieces:
        table = piece if isinstance(piece, pa.Table) else pa.Table.from_batches([piece])
        yield conform(constants.added_to(_derived(table, spec)), spec, common=True)


def stage_files(root: Path, write: SliceWrite, fingerprint: str) -> list[DataFile]:
    """Write a slice of a partitioned table: one file per partition, invisible until committed.

    Raises:
        CatalogueError: for rows that do not fit, repeat a key, or come unsorted.
    """
    spec = write.spec
    facts = {"featlas.fingerprint": fingerprint, "featlas.slice": slice_name(write.subject, fingerprint)}
    files: list[DataFile] = []
    seen: set[tuple[str, ...]] = set()
    rows = finished_rows(write, fingerprint)
    if isinstance(write.rows, pa.Table):
        rows = (_sorted(table, (*spec.partition_by, *spec.sort_by)) for table in rows)
    try:
        for partition, pieces in _by_partition(rows, spec, slug(write.subject)):
            if partition in seen:
                raise CatalogueError(
                    f"rows of {spec.name} must come grouped by {', '.join(spec.partition_by)}; "
                    f"{'/'.join(partition)} came twice"
                )
            seen.add(partition)
            values = dict(zip(spec.partition_by, partition, strict=True))
            files.append(write_file(root, spec, _in_order(pieces, spec), values, facts))
    except BaseException:
        for file in files:
            (root / file.path).unlink(missing_ok=True)
        raise
    return files


def sorted_rows(table: pa.Table, spec: TableSpec) -> pa.Table:
    """``table`` in the sort order of its specification, keys checked to be unique."""
    if set(spec.sort_by) <= set(spec.key) and is_strictly_ascending(table, spec.sort_by):
        return table  # then the keys are unique too
    check_unique(table, spec.key, f"table {spec.name}")
    return _sorted(table, spec.sort_by)


def is_strictly_ascending(table: pa.Table, names: Sequence[str]) -> bool:
    """Whether every row is greater than the one before by the columns ``names``, so that none is repeated."""
    before, after = table.slice(0, max(table.num_rows - 1, 0)), table.slice(1)
    ascends = pa.repeat(pa.scalar(False), before.num_rows)
    for name in reversed(names):
        equal = pc.equal(before[name], after[name])
        ascends = pc.and_(equal, ascends)
        if not pc.all(equal).as_py():
            ascends = pc.or_(pc.less(before[name], after[name]), ascends)
    return bool(pc.all(ascends, min_count=0).as_py())


def _derived(table: pa.Table, spec: TableSpec) -> pa.Table:
    """Fill the partition columns of ``examples``, which follow from other columns."""
    if spec.name != "examples" or table.num_rows == 0:
        return table
    names = table.column_names
    if "dictionary_slug" not in names and "dictionary_id" in names:
        ids = table.column("dictionary_id").unique().to_pylist()
        slugs = pa.array([slug(name) for name in ids])
        indices = pc.index_in(table.column("dictionary_id"), value_set=pa.array(ids))
        table = table.append_column("dictionary_slug", slugs.take(indices.combine_chunks()))
    if "feature_block" not in names and "feature_index" in names:
        block = pc.divide(table.column("feature_index").cast(pa.int32()), FEATURES_PER_BLOCK)
        table = table.append_column("feature_block", block)
    return table


def _by_partition(
    tables: Iterable[pa.Table], spec: TableSpec, subject: str
) -> Iterator[tuple[tuple[str, ...], Iterator[pa.Table]]]:
    """Runs of rows with equal partition values; the caller must consume each run before the next."""
    pieces = (piece for table in tables for piece in _split(table, spec, subject))
    current = next(pieces, None)
    while current is not None:
        partition = current[0]

        def run() -> Iterator[pa.Table]:
            nonlocal current
            while current is not None and current[0] == partition:  # noqa: B023 - used up before the next
                yield current[1]
                current = next(pieces, None)

        yield partition, run()


def _split(table: pa.Table, spec: TableSpec, subject: str) -> Iterator[tuple[tuple[str, ...], pa.Table]]:
    """Runs of equal partition values in a table; its column ``subject`` is constant."""
    if table.num_rows == 0:
        return
    ends = {table.num_rows}
    for name in set(spec.partition_by) - {"subject"}:
        encoded = pc.run_end_encode(table.column(name).combine_chunks())
        ends.update(encoded.run_ends.to_pylist())
    start = 0
    for end in sorted(ends):
        values = tuple(
            subject if name == "subject" else str(table.column(name)[start].as_py())
            for name in spec.partition_by
        )
        yield values, table.slice(start, end - start)
        start = end


def _in_order(pieces: Iterable[pa.Table], spec: TableSpec) -> Iterator[pa.Table]:
    """Sort what fits in a buffer; larger inputs must already be sorted."""
    last: tuple[Any, ...] | None = None
    for buffer in _buffers(pieces):
        table = sorted_rows(buffer, spec)
        first = _sort_values(table, spec, 0)
        if last is not None and first <= last:
            raise CatalogueError(f"rows of {spec.name} must come sorted by {', '.join(spec.sort_by)}")
        last = _sort_values(table, spec, table.num_rows - 1)
        yield table


def _buffers(pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    n_bytes = 0
    for piece in pieces:
        waiting.append(piece)
        n_bytes += piece.nbytes
        if n_bytes >= BUFFER_BYTES:
            yield pa.concat_tables(waiting)
            waiting, n_bytes = [], 0
    if waiting:
        yield pa.concat_tables(waiting)


def _sort_values(table: pa.Table, spec: TableSpec, row: int) -> tuple[Any, ...]:
    return tuple(table.column(name)[row].as_py() for name in spec.sort_by)


def _sorted(table: pa.Table, names: Iterable[str]) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in dict.fromkeys(names)])
