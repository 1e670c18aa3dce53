"""SQL text of the catalogue's views: one per table over an explicit list of files, and the derived ones.

Nothing here comes from a user: names are those of ``schemas``, paths are those of the store, quoted.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from itertools import dropwhile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.parquet_io import DataFile
from catalog.schemas import TABLES, TableSpec

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
    if present is not None:
        return _select(
            spec, {prefix + f.path: tuple(c.name in present[f.path] for c in spec.columns) for f in files}
        )
    versions = {file.path: file.schema_version for file in files}
    by_version = {
        version: tuple(c.since <= version for c in spec.columns) for version in {*versions.values()}
    }
    return _select(spec, {prefix + path: by_version[version] for path, version in versions.items()})


def _select(spec: TableSpec, layouts: Mapping[str, tuple[bool, ...]]) -> str:
    """The rows of some files, given path by path which of the table's columns the file has."""
    if not layouts:
        columns = ", ".join(f'CAST(NULL AS {sql_type(c.type)}) AS "{c.name}"' for c in spec.columns)
        return f"SELECT {columns} WHERE false"
    groups: dict[tuple[bool, ...], list[str]] = {}
    for path, has in layouts.items():
        groups.setdefault(has, []).append(path)
    selects = []
    for has, paths in sorted(groups.items()):
        columns = ", ".join(
            f'"{c.name}"' if there else f'CAST(NULL AS {sql_type(c.type)}) AS "{c.name}"'
            for c, there in zip(spec.columns, has, strict=True)
        )
        selects.append(f"SELECT {columns} FROM {_files(paths)}")
    return " UNION ALL ".join(selects)


def _files(paths: Iterable[str]) -> str:
    return f"read_parquet([{', '.join(quoted(path) for path in paths)}], hive_partitioning = false)"


def view(name: str, select: str) -> str:
    """The statement that creates a view."""
    return f"CREATE OR REPLACE VIEW {name} AS {select}"


def over_files(text: str, table: str, paths: Sequence[str]) -> str:
    """The query ``text`` with ``table`` read only from these files; columns that a file lacks are null."""
    spec = TABLES[table]
    layouts = {path: _layout(spec, path) for path in paths}
    whole = bool(layouts) and all(all(has) for has in layouts.values())
    own = f"SELECT * FROM {_files(layouts)}" if whole else _select(spec, layouts)  # * is planned faster
    code = _without_heading(text)
    first, rest = f"with {table} as ({own})", code.removeprefix("with ")
    return f"{first}\n{code}" if rest == code else f"{first},\n{rest}"


def _without_heading(sql: str) -> str:
    """A query without the comment lines above it."""
    return "".join(dropwhile(lambda line: line.startswith("--"), sql.splitlines(keepends=True)))


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
def comments(name: str) -> tuple[str, ...]:
    """The descriptions of a view and of a table's columns as ``COMMENT ON`` statements."""
    if name not in TABLES:
        return (f"COMMENT ON VIEW {name} IS {quoted(view_comment(name))}",)
    spec = TABLES[name]
    kind = "append-only" if spec.append_only else "replaceable by subject"
    text = f"{spec.summary}; key: {', '.join(spec.key)}; {kind}"
    return (
        f"COMMENT ON VIEW {name} IS {quoted(text)}",
        *(f'COMMENT ON COLUMN {name}."{c.name}" IS {quoted(c.description)}' for c in spec.columns),
    )


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
