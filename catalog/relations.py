"""SQL text of the catalogue's views: one per table over an explicit list of files, and the derived ones.

Nothing here comes from a user: names are those of ``schemas``, paths are those of the store, quoted.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from catalog.parquet_io import DataFile
from catalog.schemas import TABLES, TableSpec
from catalog.snapshot import Snapshot

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

logger = logging.getLogger(__name__)

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


@dataclass(frozen=True, slots=True)
class Damage:
    """A live data file that is missing or spoilt; its rows are not in the views."""

    table: str
    path: str
    rows: int
    reason: str


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


def table_select(spec: TableSpec, files: list[DataFile], prefix: str = "") -> str:
    """The rows of a table: files grouped by schema version, columns they lack as typed nulls.

    Args:
        spec: The table.
        files: Its live files.
        prefix: Put before each path: the root folder with a slash, or nothing for relative paths.
    """
    if not files:
        columns = ", ".join(f'CAST(NULL AS {sql_type(c.type)}) AS "{c.name}"' for c in spec.columns)
        return f"SELECT {columns} WHERE false"
    groups: dict[int, list[str]] = {}
    for file in files:
        groups.setdefault(file.schema_version, []).append(quoted(prefix + file.path))
    selects = []
    for version, paths in sorted(groups.items()):
        columns = ", ".join(
            f'"{c.name}"' if c.since <= version else f'CAST(NULL AS {sql_type(c.type)}) AS "{c.name}"'
            for c in spec.columns
        )
        source = f"read_parquet([{', '.join(paths)}], hive_partitioning = false)"
        selects.append(f"SELECT {columns} FROM {source}")
    return " UNION ALL ".join(selects)


def create_views(
    connection: "DuckDBPyConnection", snapshot: Snapshot, prefix: str = ""
) -> tuple[list[str], list[Damage]]:
    """Create every table's and derived view; files that cannot be read are left out and named.

    Sizes are always compared; footers are read where DuckDB refuses a table.

    Returns:
        The statements that were executed, and what is damaged.
    """
    import duckdb

    statements: list[str] = []
    damaged: list[Damage] = []
    for name, spec in TABLES.items():
        files, found = _sound_files(snapshot, name, _size_fault)
        damaged += found
        statement = f"CREATE OR REPLACE VIEW {name} AS {table_select(spec, files, prefix)}"
        try:
            connection.execute(statement)
        except duckdb.Error:
            files, found = _sound_files(snapshot, name, _footer_fault)
            if not found:
                raise
            damaged += [damage for damage in found if damage not in damaged]
            statement = f"CREATE OR REPLACE VIEW {name} AS {table_select(spec, files, prefix)}"
            connection.execute(statement)
        statements.append(statement)
    for name, select in derived_views():
        statements.append(f"CREATE OR REPLACE VIEW {name} AS {select}")
        connection.execute(statements[-1])
    for damage in damaged:
        logger.warning("%s: %s %s; run `featlas verify`", damage.table, damage.path, damage.reason)
    return statements, damaged


def _sound_files(
    snapshot: Snapshot, table: str, fault_of: Callable[[Path, DataFile], str | None]
) -> tuple[list[DataFile], list[Damage]]:
    sound, damaged = [], []
    for file in snapshot.files(table):
        reason = fault_of(snapshot.root / file.path, file)
        if reason is None:
            sound.append(file)
        else:
            damaged.append(Damage(table, file.path, file.rows, reason))
    return sound, damaged


def _size_fault(path: Path, file: DataFile) -> str | None:
    try:
        n_bytes = path.stat().st_size
    except FileNotFoundError:
        return "is missing"
    return None if n_bytes == file.n_bytes else f"has {n_bytes} bytes, committed were {file.n_bytes}"


def _footer_fault(path: Path, file: DataFile) -> str | None:
    import pyarrow.parquet as pq

    reason = _size_fault(path, file)
    if reason is not None:
        return reason
    try:
        pq.read_metadata(path)
    except (OSError, pa.ArrowException):
        return "has no readable footer"
    return None


@cache
def derived_views() -> tuple[tuple[str, str], ...]:
    """Name and select of the files in ``sql/views``, in the order in which they build on each other."""
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


def quoted(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("'", "''") + "'"


def _words(sql: str) -> set[str]:
    code = "\n".join(line.partition("--")[0] for line in sql.splitlines())
    return set("".join(c if c.isalnum() or c == "_" else " " for c in code).split())
