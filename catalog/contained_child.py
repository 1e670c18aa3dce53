"""The process that runs one untrusted query; started by ``contained.py``, never imported.

It gets a request as JSON on standard input and answers as JSON on a pipe. Limits are set before anything is
loaded. Tables are Arrow datasets over the files that the parent named, so DuckDB needs no file access,
and gets none; its configuration is locked before it sees the query.
"""

import json
import os
import resource
import sys
from typing import Any

QUERY_KINDS = ("SELECT", "EXPLAIN")


def set_limits(request: dict[str, Any]) -> None:
    """Cap address space, processor time, files and core dumps of this process."""
    memory, seconds = int(request["memory_bytes"]), int(request["seconds"])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds * int(request["threads"]) + 1,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def locked_connection(request: dict[str, Any]) -> Any:
    """DuckDB with the tables and views of the request and nothing else in reach."""
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
    """A table as an Arrow dataset of a given schema; columns that a file lacks are null."""
    from base64 import b64decode

    import pyarrow as pa
    import pyarrow.dataset as dataset

    pa.set_cpu_count(2)
    pa.set_io_thread_count(2)
    schema = pa.ipc.read_schema(pa.py_buffer(b64decode(table["schema"])))
    if not table["files"]:
        return schema.empty_table()
    return dataset.dataset(table["files"], schema=schema, format="parquet")


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Run the query and describe its first rows, or say what is wrong with it."""
    connection = locked_connection(request)
    statements = connection.extract_statements(request["sql"])
    if len(statements) != 1:
        return {"refused": f"give exactly one statement, not {len(statements)}"}
    kind = str(statements[0].type).rpartition(".")[2]
    if kind not in QUERY_KINDS:
        return {"refused": f"only queries are allowed here, and this is {kind.replace('_', ' ')}"}
    connection.execute(statements[0])
    description = connection.description or []
    rows = connection.fetchmany(int(request["max_rows"]) + 1)
    return {
        "columns": [str(column[0]) for column in description],
        "types": [str(column[1]) for column in description],
        "rows": [[plain(value) for value in row] for row in rows[: request["max_rows"]]],
        "truncated": len(rows) > request["max_rows"],
    }


def plain(value: Any) -> Any:
    """A value as JSON; kinds that JSON lacks are tagged objects."""
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
    """Read the request, answer it, end without clean-up."""
    answers = os.dup(1)
    os.set_inheritable(answers, False)
    nowhere = os.open(os.devnull, os.O_RDWR)
    request = json.loads(sys.stdin.buffer.read())
    for descriptor in (0, 1):
        os.dup2(nowhere, descriptor)
    set_limits(request)
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    try:
        reply = answer(request)
    except MemoryError:
        reply = {"error": "out of memory"}
    except Exception as error:
        reply = {"error": f"{type(error).__name__}: {error}"}
    text = json.dumps(reply).encode()
    if len(text) > request["max_bytes"]:
        text = json.dumps({"refused": "the result is too large: select fewer columns or rows"}).encode()
    with os.fdopen(answers, "wb") as pipe:
        pipe.write(text)
    os._exit(0)


if __name__ == "__main__":
    main()
