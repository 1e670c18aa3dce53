"""SQL text of the catalogue's views: one per table over an explicit list of files, and the derived ones.

Nothing here comes from a user: names are those of ``schemas``, paths are those of the store, quoted.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.parquet_io import DataFile
from catalog.schemas import TABLES, TableSpec
from catalog.snapshot import Snapshot
from catalog.soundness import Damage, footer, footer_fault, size_fault, sound_files

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

logger = logging.getLogger(__name__)

FOOTERS_KEPT = 10_000  # about 1 kB each
VIEW_FOLDER = Path(__file__).parent / "sql" / "views"
_SCALARS = {
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP WITH TIME ZONE",
}


def sql_type(kind: pa.DataType) -> str:
    """DuckDB's name of an Arrow type that the schemas use."""
    if pa.types.is_list(kind):
        return f"{sql_type(kind.value_type)}[]"
    if pa.types.is_map(kind):
        return f"MAP({sql_type(kind.key_type)}, {sql_type(kind.item_type)})"
    if pa.types.is_struct(kind):
        fields = (kind.field(index) for index in range(kind.num_fields))
        return "STRUCT(" + ", ".join(f'"{f.name}" {sql_type(f.type)}' for f in fields) + ")"
    return _SCALARS[kind]


def table_select(
    spec: TableSpec,
    files: list[DataFile],
    prefix: str = "",
    present: Mapping[str, frozenset[str]] | None = None,
) -> str:
    """The rows of a table: files grouped by the columns they have; missing columns are typed nulls.

    Args:
        spec: The table.
        files: Its live files.
        prefix: Put before each path: the root folder with a slash, or nothing for relative paths.
        present: Path → columns that the file really has; by default those of its schema version.
    """
    layouts = {
        prefix + file.path: tuple(
            c.since <= file.schema_version if present is None else c.name in present[file.path]
            for c in spec.columns
        )
        for file in files
    }
    return _select(spec, layouts)


def _select(spec: TableSpec, layouts: Mapping[str, tuple[bool, ...]]) -> str:
    """The rows of some files, given path by path which of the table's columns the file has."""
    if not layouts:
        columns = ", ".join(f'CAST(NULL AS {sql_type(c.type)}) AS "{c.name}"' for c in spec.columns)
        return f"SELECT {columns} WHERE false"
    groups: dict[tuple[bool, ...], list[str]] = {}
    for path, has in layouts.items():
        groups.setdefault(has, []).append(quoted(path))
    selects = []
    for has, paths in sorted(groups.items()):
        columns = ", ".join(
            f'"{c.name}"' if there else f'CAST(NULL AS {sql_type(c.type)}) AS "{c.name}"'
            for c, there in zip(spec.columns, has, strict=True)
        )
        source = f"read_parquet([{', '.join(paths)}], hive_partitioning = false)"
        selects.append(f"SELECT {columns} FROM {source}")
    return " UNION ALL ".join(selects)


def over_files(text: str, table: str, paths: Sequence[str]) -> str:
    """The query ``text`` with ``table`` read only from these files; columns that a file lacks are null."""
    spec = TABLES[table]
    own = _select(spec, {path: _layout(spec, path) for path in paths})
    return f"with {table} as ({own})\nselect * from (\n{text}\n)"


def _layout(spec: TableSpec, path: str) -> tuple[bool, ...]:
    """Which columns of a table a file has; all, where its footer cannot be read: DuckDB says why."""
    try:
        columns = _columns_of(path)
    except (OSError, pa.ArrowException):
        return (True,) * len(spec.columns)
    return tuple(column.name in columns for column in spec.columns)


@lru_cache(maxsize=FOOTERS_KEPT)
def _columns_of(path: str) -> frozenset[str]:
    """The columns of a data file, which never changes."""
    return frozenset(pq.read_schema(path).names)


def create_views(
    connection: "DuckDBPyConnection",
    snapshot: Snapshot,
    prefix: str = "",
    left_out: Mapping[str, str] | None = None,
    *,
    with_comments: bool = False,
) -> tuple[list[str], list[Damage]]:
    """Create every table's and derived view; skip and name files that cannot be read.

    Sizes are always compared; footers are read only if DuckDB refuses a table. A column that a file does not
    have is null; a file with a column of another type is skipped.

    Args:
        connection: Where to create the views.
        snapshot: Version of the catalogue they show.
        prefix: Put before each path: the root folder with a slash, or nothing for relative paths.
        left_out: Path → reason of files that are known to be damaged.
        with_comments: Whether to describe tables, views and columns (``COMMENT ON``).

    Returns:
        The statements that were executed, and what is damaged.
    """
    statements: list[str] = []
    damaged: list[Damage] = []
    for name, spec in TABLES.items():
        files, found = sound_files(snapshot, name, size_fault, left_out)
        select = table_select(spec, files, prefix)
        if not _creates(connection, name, select):
            select, found = _by_footers(connection, snapshot, spec, prefix, left_out)
        damaged += found
        statements.append(_view(name, select))
    for name in _other_types(connection):
        select, found = _by_footers(connection, snapshot, TABLES[name], prefix, left_out)
        damaged = [damage for damage in damaged if damage.table != name] + found
        statements[list(TABLES).index(name)] = _view(name, select)
    for name, select in derived_views():
        statements.append(_view(name, select))
        connection.execute(statements[-1])
    if with_comments:
        connection.execute(";\n".join(comments()))
        statements += comments()
    for damage in damaged:
        logger.warning("%s: %s %s; run `featlas verify`", damage.table, damage.path, damage.reason)
    return statements, damaged


def _view(name: str, select: str) -> str:
    return f"CREATE OR REPLACE VIEW {name} AS {select}"


def _creates(connection: "DuckDBPyConnection", name: str, select: str) -> bool:
    """Create a view and bind it; False if DuckDB refuses its files."""
    import duckdb

    try:
        connection.execute(_view(name, select))
    except duckdb.Error:
        return False
    return True


def _other_types(connection: "DuckDBPyConnection") -> list[str]:
    """Tables whose view has a column of another type than the schemas define, because of a file."""
    query = "select table_name, column_name, data_type from duckdb_columns() where not internal"
    found = {
        (str(t), str(c)): str(kind).replace('"', "") for t, c, kind in connection.execute(query).fetchall()
    }
    return [
        name
        for name, spec in TABLES.items()
        if any(found.get((name, c.name)) != sql_type(c.type).replace('"', "") for c in spec.columns)
    ]


def _by_footers(
    connection: "DuckDBPyConnection",
    snapshot: Snapshot,
    spec: TableSpec,
    prefix: str,
    left_out: Mapping[str, str] | None,
) -> tuple[str, list[Damage]]:
    """The select of a table that DuckDB refused, from the columns that each file really has."""
    files, damaged = sound_files(snapshot, spec.name, footer_fault, left_out)
    fitting: list[DataFile] = []
    present: dict[str, frozenset[str]] = {}
    for file in files:
        found = _columns(snapshot.root / file.path)
        strange = [c for c in spec.columns if c.name in found and found[c.name] != sql_type(c.type)]
        if strange:
            reason = f"has {strange[0].name} as {found[strange[0].name]}, not {sql_type(strange[0].type)}"
            damaged.append(Damage(spec.name, file.path, file.rows, reason))
        else:
            fitting.append(file)
            present[file.path] = frozenset(found)
    select = table_select(spec, fitting, prefix, present)
    if not _creates(connection, spec.name, select):
        reason = "is refused by DuckDB with the table's other files"
        damaged += [Damage(spec.name, file.path, file.rows, reason) for file in fitting]
        select = table_select(spec, [])
        connection.execute(_view(spec.name, select))
    return select, damaged


def _columns(path: Path) -> dict[str, str]:
    """Columns of a data file with their DuckDB types."""
    metadata = footer(path)
    schema = metadata.schema.to_arrow_schema() if metadata is not None else pa.schema([])
    return {field.name: _type_name(field.type) for field in schema}


def _type_name(kind: pa.DataType) -> str:
    try:
        return sql_type(kind)
    except KeyError:
        return str(kind)


@cache
def derived_views() -> tuple[tuple[str, str], ...]:
    """Name and select of the files in ``sql/views``, in an order in which each uses only earlier ones."""
    texts = {path.stem: path.read_text().strip().rstrip(";") for path in VIEW_FOLDER.glob("*.sql")}
    ordered: list[str] = []
    while len(ordered) < len(texts):
        ready = [
            name
            for name in sorted(texts)
            if name not in ordered
            and not any(other in _words(texts[name]) for other in texts if other not in {name, *ordered})
        ]
        if not ready:
            raise ValueError(f"views build on each other in a circle: {sorted(set(texts) - set(ordered))}")
        ordered += ready
    return tuple((name, texts[name]) for name in ordered)


@cache
def comments() -> tuple[str, ...]:
    """The descriptions of tables, views and columns as ``COMMENT ON`` statements."""
    found = [f"COMMENT ON VIEW {name} IS {quoted(view_comment(name))}" for name, _ in derived_views()]
    for spec in TABLES.values():
        kind = "append-only" if spec.append_only else "replaceable by subject"
        text = f"One row per {spec.row}; key: {', '.join(spec.key)}; {kind}"
        found.append(f"COMMENT ON VIEW {spec.name} IS {quoted(text)}")
        found += [
            f'COMMENT ON COLUMN {spec.name}."{column.name}" IS {quoted(column.description)}'
            for column in spec.columns
        ]
    return tuple(found)


def view_comment(name: str) -> str:
    """The description of a derived view: the first lines of its file."""
    lines = (VIEW_FOLDER / f"{name}.sql").read_text().splitlines()
    return " ".join(line.removeprefix("--").strip() for line in lines if line.startswith("--"))


def quoted(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("'", "''") + "'"


def _words(sql: str) -> set[str]:
    code = "\n".join(line.partition("--")[0] for line in sql.splitlines())
    return set("".join(c if c.isalnum() or c == "_" else " " for c in code).split())
