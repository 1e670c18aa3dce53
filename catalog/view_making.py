"""Create the views of one version in DuckDB; skip and name files that cannot be read."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from catalog.parquet_io import DataFile
from catalog.relations import comments, derived_views, sql_type, table_select, view
from catalog.schemas import TABLES, TableSpec
from catalog.snapshot import Snapshot
from catalog.soundness import Damage, footer, footer_fault, size_fault, sound_files

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

logger = logging.getLogger(__name__)

_COLUMN_TYPES = """
select table_name, column_name, data_type
from duckdb_columns()
where database_name = current_database() and list_contains($names::varchar[], table_name)
"""

Made = dict[str, tuple[object, ...]]
"""View → its select, and inode, time and size of its files, when the view was created."""


def create_views(
    connection: "DuckDBPyConnection",
    snapshot: Snapshot,
    prefix: str = "",
    left_out: Mapping[str, str] | None = None,
    *,
    with_comments: bool = False,
    made: Made | None = None,
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
        made: Views that earlier calls created on this connection; unchanged ones are kept.

    Returns:
        The statements that create the views and comments, and what is damaged.
    """
    made = {} if made is None else made
    selects, damaged, fresh = _create_tables(connection, snapshot, prefix, left_out or {}, made)
    for name, select in derived_views():
        selects[name] = select
        if made.get(name) != (select,):
            fresh[name] = (select,)
            connection.execute(view(name, select))
    if with_comments and fresh:
        connection.execute(";\n".join(line for name in fresh for line in comments(name)))
    made |= fresh
    found = [damage for of_table in damaged.values() for damage in of_table]
    for damage in found:
        logger.warning("%s: %s %s; run `featlas verify`", damage.table, damage.path, damage.reason)
    statements = [view(name, select) for name, select in selects.items()]
    return statements + (_all_comments() if with_comments else []), found


def _create_tables(
    connection: "DuckDBPyConnection",
    snapshot: Snapshot,
    prefix: str,
    left_out: Mapping[str, str],
    made: Made,
) -> tuple[dict[str, str], dict[str, list[Damage]], Made]:
    """The views of the tables: their selects, what is damaged, and those that were created now."""
    selects: dict[str, str] = {}
    damaged: dict[str, list[Damage]] = {}
    fresh: Made = {}
    refused: list[str] = []
    for name, spec in TABLES.items():
        files, damaged[name] = sound_files(snapshot, name, size_fault, left_out)
        selects[name] = table_select(spec, files, prefix)
        state = (selects[name], *(_stamp(snapshot.root / file.path) for file in files))
        if made.get(name) != state:
            fresh[name] = state
            if not _creates(connection, name, selects[name]):
                refused.append(name)
    for name in [*refused, *_other_types(connection, [n for n in fresh if n not in refused])]:
        selects[name], damaged[name] = _by_footers(connection, snapshot, TABLES[name], prefix, left_out)
        fresh[name] = ()
    return selects, damaged, fresh


def _all_comments() -> list[str]:
    return [line for name in (*(name for name, _ in derived_views()), *TABLES) for line in comments(name)]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Distinguishes a file from another one of the same name; None if it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _creates(connection: "DuckDBPyConnection", name: str, select: str) -> bool:
    """Create a view and bind it; False if DuckDB refuses its files."""
    import duckdb

    try:
        connection.execute(view(name, select))
    except duckdb.Error:
        return False
    return True


def _other_types(connection: "DuckDBPyConnection", names: list[str]) -> list[str]:
    """Tables whose view has a column of another type than the schemas define, because of a file."""
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    for name, column, kind in connection.execute(_COLUMN_TYPES, {"names": names}).fetchall():
        found[name][column] = str(kind).replace('"', "")
    return [name for name in names if found[name] != _types(TABLES[name])]


def _types(spec: TableSpec) -> dict[str, str]:
    return {column.name: sql_type(column.type).replace('"', "") for column in spec.columns}


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
        connection.execute(view(spec.name, select))
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
