"""SQL text of the catalogue's views: one per table over an explicit list of files, and the derived ones.

Nothing here comes from a user: names are those of ``schemas.py``, paths are those of the store, quoted.
"""

from functools import cache
from pathlib import Path

import pyarrow as pa

from catalog.parquet_io import DataFile
from catalog.schemas import TABLES, TableSpec
from catalog.snapshot import Snapshot

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


def table_views(snapshot: Snapshot, prefix: str = "") -> list[tuple[str, str]]:
    """Name and select of every table."""
    return [(name, table_select(spec, snapshot.files(name), prefix)) for name, spec in TABLES.items()]


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
