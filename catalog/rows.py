"""Rows that fit a table: right columns and types, no NaN, only the enumerated strings."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import CatalogueError
from catalog.schemas import COMMON_COLUMNS, TABLES, TableSpec

ENUMERATION_SHOWN = 5


def rows_of(table: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of a stage in the types of their table; all have the fields of the first.

    Raises:
        CatalogueError: for a field that the table does not have.
    """
    schema, named = TABLES[table].schema, rows[0] if rows else {}
    unknown = [name for name in named if name not in schema.names]
    if unknown:
        raise CatalogueError(f"rows for table {table} do not fit: unknown columns {unknown}")
    fields = [schema.field(name) for name in schema.names if name in named]
    return pa.Table.from_pylist(list(rows), schema=pa.schema(fields))


class Constants:
    """Constant columns for tables that come one after another.

    The arrays are kept and cut to the length of each table, because copying a string for every row takes
    longer than writing the row.
    """

    def __init__(self, **values: Any) -> None:
        self._scalars = {
            name: value if isinstance(value, pa.Scalar) else pa.scalar(value)
            for name, value in values.items()
        }
        self._arrays: dict[str, pa.Array] = {}

    def added_to(self, table: pa.Table) -> pa.Table:
        """``table`` with the columns appended; a column that exists is replaced."""
        for name in self._scalars:
            column = self._column(name, table.num_rows)
            index = table.schema.get_field_index(name)
            table = table.append_column(name, column) if index < 0 else table.set_column(index, name, column)
        return table

    def _column(self, name: str, n_rows: int) -> pa.Array:
        array = self._arrays.get(name)
        if array is None or len(array) < n_rows:
            array = self._arrays[name] = pa.repeat(self._scalars[name], n_rows)
        return array.slice(0, n_rows)


def with_constants(table: pa.Table, **values: Any) -> pa.Table:
    """``table`` with constant columns appended; a column that exists is replaced."""
    return Constants(**values).added_to(table)


def batches_with_constants(batches: Iterable[pa.RecordBatch], **values: Any) -> Iterator[pa.RecordBatch]:
    """``with_constants`` for rows that come in batches."""
    constants = Constants(**values)
    for batch in batches:
        yield from constants.added_to(pa.Table.from_batches([batch])).to_batches()


def conform(table: pa.Table, spec: TableSpec, *, common: bool | None = None) -> pa.Table:
    """``table`` with exactly the columns of ``spec``, in order, cast and checked.

    Missing nullable columns become null. ``common`` says whether the columns that the store adds
    (fingerprint,
    slice, subject) belong to the result; by default they do if ``table`` has them.

    Raises:
        CatalogueError: for missing or unknown columns, values that do not fit, nulls, NaN or infinite
            numbers, and strings outside an enumeration.
    """
    if common is None:
        common = all(name in table.column_names for name in COMMON_COLUMNS)
    columns = [c for c in spec.columns if common or c.name not in COMMON_COLUMNS]
    known = {column.name for column in columns}
    unknown = [name for name in table.column_names if name not in known]
    missing = [c.name for c in columns if not c.nullable and c.name not in table.column_names]
    if unknown or missing:
        raise CatalogueError(
            f"rows for table {spec.name} do not fit: unknown columns {unknown}, missing columns {missing}"
        )
    arrays = []
    for column in columns:
        if column.name in table.column_names:
            array = _cast(table.column(column.name), column.type, f"{spec.name}.{column.name}")
        else:
            array = pa.chunked_array([pa.nulls(table.num_rows, column.type)])
        arrays.append(array)
    fitted = pa.Table.from_arrays(arrays, schema=pa.schema([spec.schema.field(c.name) for c in columns]))
    check_values(fitted, spec)
    return fitted


def check_values(table: pa.Table, spec: TableSpec) -> None:
    """Refuse nulls in required columns, non-finite numbers and unknown enumeration values.

    Raises:
        CatalogueError: naming table, column and what was found.
    """
    for column in spec.columns:
        if column.name not in table.column_names:
            continue
        values = table.column(column.name)
        where = f"{spec.name}.{column.name}"
        if not column.nullable and values.null_count:
            raise CatalogueError(f"{where} has {values.null_count} nulls where none is allowed")
        n_bad = sum(count_nonfinite(chunk) for chunk in values.chunks)
        if n_bad:
            raise CatalogueError(f"{where} has {n_bad} NaN or infinite values; drop and count them first")
        if column.values:
            _check_enumeration(values, column.values, where)


def check_unique(table: pa.Table, key: Sequence[str], where: str) -> None:
    """Refuse two rows with the same key.

    Raises:
        CatalogueError: naming the table and the number of repeated rows.
    """
    n_distinct = table.select(list(key)).group_by(list(key)).aggregate([]).num_rows
    if n_distinct != table.num_rows:
        raise CatalogueError(
            f"{where} has {table.num_rows - n_distinct} rows whose key ({', '.join(key)}) occurs twice"
        )


def count_nonfinite(array: pa.Array) -> int:
    """NaN and infinite numbers in a column, including nested lists, structs and maps."""
    kind = array.type
    if pa.types.is_floating(kind):
        finite = pc.is_finite(array if kind != pa.float16() else array.cast(pa.float32()))
        return int(len(array) - array.null_count - (pc.sum(finite).as_py() or 0))
    if pa.types.is_map(kind):
        return count_nonfinite(array.items)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return 0 if not _holds_floats(kind.value_type) else count_nonfinite(array.flatten())
    if pa.types.is_struct(kind):
        return sum(count_nonfinite(field) for field in array.flatten())
    return 0


def _holds_floats(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_holds_floats(kind.field(index).type) for index in range(kind.num_fields))
    return bool(pa.types.is_floating(kind))


def _cast(values: pa.ChunkedArray, kind: pa.DataType, where: str) -> pa.ChunkedArray:
    if values.type == kind:
        return values
    lossy = pa.types.is_floating(kind) or pa.types.is_timestamp(kind) or pa.types.is_nested(kind)
    try:
        return values.cast(kind, safe=not lossy)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise CatalogueError(f"{where} cannot hold {values.type} as {kind}: {error}") from error


def _check_enumeration(values: pa.ChunkedArray, allowed: tuple[str, ...], where: str) -> None:
    inside = pc.or_kleene(pc.is_in(values, value_set=pa.array(allowed, pa.string())), pc.is_null(values))
    if not pc.all(inside).as_py() and len(values):
        strange = pc.unique(values.filter(pc.invert(inside))).to_pylist()
        raise CatalogueError(
            f"{where} may be {', '.join(allowed)}; found {', '.join(map(repr, strange[:ENUMERATION_SHOWN]))}"
        )
