"""The definition of a table: columns with types and meaning, key, partitions, order."""

from dataclasses import dataclass, field
from typing import get_args

import pyarrow as pa

TEXT, BOOL = pa.string(), pa.bool_()
I32, I64, F32, F64 = pa.int32(), pa.int64(), pa.float32(), pa.float64()
TIME = pa.timestamp("us", tz="UTC")
JSON = pa.string()

HOOK = pa.struct([("model_id", TEXT), ("hookpoint", TEXT)])
LOGIT = pa.struct([("token_id", I32), ("token", TEXT), ("logit", F32)])
NEIGHBOUR = pa.struct([("feature_index", I32), ("score", F32)])
BIN = pa.struct([("low", F32), ("high", F32), ("n", I64)])
TOKEN_SHARE = pa.struct([("token", TEXT), ("share", F64)])
FAMILY = pa.struct([("family", TEXT), ("auroc", F64), ("n", I32)])
QUANTILE = pa.struct([("q", F32), ("value", F32)])


@dataclass(frozen=True, slots=True)
class Column:
    """One column: name, Arrow type, meaning; ``values`` lists the strings of an enumeration.

    ``since`` is the version of the table that added the column; older files read it as null.
    """

    name: str
    type: pa.DataType
    description: str
    nullable: bool = False
    values: tuple[str, ...] = ()
    since: int = 1


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table: its rows, columns, unique key, Hive partitions, sort order and layout.

    Rows are committed in slices, one per fingerprint. A slice of a replaceable table replaces every earlier
    row of its ``subject`` (what the rows are about); no slice replaces a slice of an append-only table.
    Partitioned tables have separate files per subject. The other tables are small, and their slices share
    files. The files contain the partition columns too. Nothing writes a ``planned`` table yet.
    """

    name: str
    row: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    sort_by: tuple[str, ...]
    partition_by: tuple[str, ...]
    append_only: bool = False
    row_group_rows: int = 65_536
    version: int = 1
    planned: bool = False
    schema: pa.Schema = field(init=False, repr=False, compare=False)
    """The Arrow schema of a data file, column descriptions in the field metadata."""

    @property
    def summary(self) -> str:
        """What a row is, in a sentence without a full stop; says so where nothing writes the table yet."""
        planned = " (planned: nothing writes this table yet)" if self.planned else ""
        return f"One row per {self.row}{planned}"

    def __post_init__(self) -> None:
        object.__setattr__(self, "schema", _arrow_schema(self))

    def column(self, name: str) -> Column:
        """The column of that name.

        Raises:
            KeyError: when there is none.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name} has no column {name}")


def _arrow_schema(spec: TableSpec) -> pa.Schema:
    fields = [pa.field(c.name, c.type, c.nullable, {"description": c.description}) for c in spec.columns]
    return pa.schema(fields, {"featlas.table": spec.name, "featlas.version": str(spec.version)})


def column(name: str, type_: pa.DataType, description: str, values: object = None) -> Column:
    """A column that always has a value; ``values`` is the ``Literal`` of an enumeration."""
    return Column(name, type_, description, False, _allowed(values))


def optional(
    name: str, type_: pa.DataType, description: str, values: object = None, since: int = 1
) -> Column:
    """A column that may be null; every column added after the table's first version must be optional."""
    return Column(name, type_, description, True, _allowed(values), since)


def interval(of: str, documents: str = "", prefix: str = "", since: int = 1) -> tuple[Column, ...]:
    """The ends of a 95 % interval, and the documents that it is over; null where none is defined.

    Args:
        of: What the interval is of, as the end of the description.
        documents: Which documents they are; empty for a table without ``n_documents``.
        prefix: What the names of the ends begin with.
        since: Version of the table that added the columns.
    """
    ends = [
        optional(f"{prefix}ci_{end}", F64, f"{end.title()} end of the 95 % interval of {of}", since=since)
        for end in ("low", "high")
    ]
    if documents:
        ends.append(optional("n_documents", I64, documents, since=since))
    return tuple(ends)


def _allowed(values: object) -> tuple[str, ...]:
    return tuple(get_args(values)) if values is not None else ()


_COMMON = (
    column("fingerprint", TEXT, "Digest of the stage, config and parents that produced this row"),
    column("slice", TEXT, "Slug of the committed file set that contains the row"),
    column("subject", TEXT, "Slug of what the slice is about and replaces completely"),
)
COMMON_COLUMNS = tuple(common.name for common in _COMMON)
DICTIONARY = column("dictionary_id", TEXT, "Dictionary: alias plus eight hex digits of its fingerprint")
SET = column("activation_set_id", TEXT, "Activation set that the observation was made on")
FEATURE = column("feature_index", I32, "Unit of the dictionary, counted from 0")
METRIC_VERSION = column("metric_version", I32, "Version of the definition of these figures")


def table(
    name: str,
    row: str,
    key: tuple[str, ...],
    *columns: Column,
    sort_by: tuple[str, ...] | None = None,
    partition_by: tuple[str, ...] | None = None,
    append_only: bool = False,
    row_group_rows: int = 65_536,
    version: int = 1,
    planned: bool = False,
) -> TableSpec:
    """A table with the common columns; sorted by its key and, if replaceable, in files per subject."""
    return TableSpec(
        name,
        row,
        (*columns, *_COMMON),
        key,
        sort_by or key,
        (() if append_only else ("subject",)) if partition_by is None else partition_by,
        append_only,
        row_group_rows,
        version,
        planned,
    )
