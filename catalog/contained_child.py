"""The process that runs one untrusted query; ``contained.py`` starts it, nothing imports it.

It reads a request as JSON from standard input and answers on a pipe: a line of JSON, then files if they
were requested. It sets its limits before it loads anything. Tables are Arrow datasets over the files that
the parent names, so DuckDB needs no file access and gets none. Its configuration is locked before the query.
"""

import json
import os
import resource
import sys
from datetime import date, time
from decimal import Decimal
from typing import Any

QUERY_KINDS = ("SELECT", "EXPLAIN")


def set_limits(request: dict[str, Any]) -> None:
    """Limit address space, processor time, files and core dumps of this process."""
    memory, seconds = int(request["memory_bytes"]), int(request["seconds"])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds * int(request["threads"]) + 1,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def locked_connection(request: dict[str, Any]) -> Any:
    """DuckDB with only the tables and views of the request."""
    import duckdb

    connection = duckdb.connect(
        config={
            "threads": str(request["threads"]),
            "memory_limit": str(request["duckdb_memory"]),
            "temp_directory": "",
            "python_enable_replacements": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "allow_persistent_secrets": "false",
        }
    )
    connection.execute("SET TimeZone = 'UTC'")
    for name, table in request["tables"].items():
        connection.register(name, arrow_dataset(table))
    for statement in request["views"]:
        connection.execute(statement)
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def arrow_dataset(table: dict[str, Any]) -> Any:
    """A table as an Arrow dataset of a given schema; columns that a file does not have are null."""
    from base64 import b64decode

    import pyarrow as pa
    import pyarrow.dataset as dataset

    pa.set_cpu_count(2)
    pa.set_io_thread_count(2)
    schema = pa.ipc.read_schema(pa.py_buffer(b64decode(table["schema"])))
    if not table["files"]:
        return schema.empty_table()
    return dataset.dataset(table["files"], schema=schema, format="parquet")


def answer(request: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
    """Run the query; return its first rows in the reply or as files, or the error."""
    connection = locked_connection(request)
    statements = connection.extract_statements(request["sql"])
    if len(statements) != 1:
        return {"refused": f"give exactly one statement, not {len(statements)}"}, []
    kind = str(statements[0].type).rpartition(".")[2]
    if kind not in QUERY_KINDS:
        return {"refused": f"only queries are allowed here, and this is {kind.replace('_', ' ')}"}, []
    connection.execute(statements[0])
    description = connection.description or []
    rows = connection.fetchmany(int(request["max_rows"]) + 1)
    shown = rows[: request["max_rows"]]
    names = distinct_names([str(column[0]) for column in description])
    reply = {
        "columns": names,
        "types": [str(column[1]) for column in description],
        "n_rows": len(shown),
        "truncated": len(rows) > request["max_rows"],
    }
    if request["as_files"]:
        return reply, files_of(names, shown)
    return {**reply, "rows": [[plain(value) for value in row] for row in shown]}, []


def distinct_names(names: list[str]) -> list[str]:
    """Column names without repeats: the second ``a`` becomes ``a_2``, or the next free number."""
    taken = set(names)
    found: list[str] = []
    for name in names:
        number, free = 1, name
        while free in found or (number > 1 and free in taken):
            number += 1
            free = f"{name}_{number}"
        found.append(free)
    return found


def files_of(names: list[str], rows: list[tuple[Any, ...]]) -> list[bytes]:
    """The rows as an Arrow stream, as CSV (nested values as JSON) and as Parquet."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    columns = [column_of([row[position] for row in rows]) for position in range(len(names))]
    table = pa.Table.from_arrays(columns, names=names)
    flat = pa.Table.from_arrays([flat_column(column) for column in columns], names=names)
    stream, text, packed = (pa.BufferOutputStream() for _ in range(3))
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    pa.csv.write_csv(flat, text)
    pa.parquet.write_table(table, packed)
    return [sink.getvalue().to_pybytes() for sink in (stream, text, packed)]


def column_of(values: list[Any]) -> Any:
    """Values as an Arrow array; values of mixed or unknown types become text."""
    import pyarrow as pa

    values = [known(value) for value in values]
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array(
            [None if value is None else value if isinstance(value, str) else words(value) for value in values]
        )


def flat_column(column: Any) -> Any:
    """A column in a type that CSV can hold."""
    import pyarrow as pa

    kind = pa.types
    if any(is_(column.type) for is_ in (kind.is_primitive, kind.is_string, kind.is_null)):
        return column
    return pa.array([None if value is None else words(value) for value in column.to_pylist()], pa.string())


def known(value: Any) -> Any:
    """A value in a plain Arrow type; other values (durations, UUIDs) become text."""
    if isinstance(value, (list, tuple)):
        return [known(item) for item in value]
    if isinstance(value, dict):
        return {str(key): known(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str, bytes, Decimal)):
        return value
    return value if isinstance(value, (date, time)) else str(value)


def words(value: Any) -> str:
    """A value as text; lists and structs as JSON."""
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, default=str, ensure_ascii=False)
    return str(value)


def plain(value: Any) -> Any:
    """A value as JSON; types that JSON does not have become tagged objects."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {"kind": "dict", "value": [[plain(key), plain(item)] for key, item in value.items()]}
    if isinstance(value, (bytes, bytearray)):
        return {"kind": "bytes", "value": bytes(value).hex()}
    if hasattr(value, "isoformat"):
        return {"kind": type(value).__name__, "value": value.isoformat()}
    return {"kind": "str", "value": str(value)}


def main() -> None:
    """Read the request, answer it, exit without clean-up."""
    answers = os.dup(1)
    os.set_inheritable(answers, False)
    nowhere = os.open(os.devnull, os.O_RDWR)
    request = json.loads(sys.stdin.buffer.read())
    for descriptor in (0, 1):
        os.dup2(nowhere, descriptor)
    set_limits(request)
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    files: list[bytes] = []
    try:
        reply, files = answer(request)
    except MemoryError:
        reply = {"error": "out of memory"}
    except Exception as error:
        reply = {"error": f"{type(error).__name__}: {error}"}
    text = json.dumps({**reply, "sizes": [len(content) for content in files]}).encode()
    if len(text) + sum(len(content) for content in files) > request["max_bytes"]:
        text = json.dumps({"refused": "the result is too large: select fewer columns or rows"}).encode()
        files = []
    with os.fdopen(answers, "wb") as pipe:
        pipe.write(text + b"\n")
        for content in files:
            pipe.write(content)
    os._exit(0)


if __name__ == "__main__":
    main()
