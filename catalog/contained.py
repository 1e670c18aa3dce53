"""Contained untrusted SQL: one short-lived process per query that can reach only the tables.

DuckDB has no privilege boundary inside a process, so the process is the boundary: isolated interpreter,
empty environment, limits on memory, time and files, no file access for the engine, locked configuration, one
query, at most a thousand rows back through a pipe, killed after its time limit. A caller with many queries,
such as a server, runs two of these processes at a time.
"""

import itertools
import json
import re
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from datetime import time as time_of_day
from pathlib import Path
from typing import Any

from catalog.damage import damage_sentence
from catalog.errors import CatalogueError, UserError
from catalog.relations import derived_views
from catalog.schemas import TABLES
from catalog.snapshot import Snapshot, newest_snapshot

MEMORY_BYTES = 3 * 2**30
DUCKDB_MEMORY = "1GB"
THREADS = 2
MAX_SQL_CHARS = 100_000
MAX_ERROR_CHARS = 500
MAX_REPLY_BYTES = 64 * 2**20
MAX_FILE_BYTES = 16 * 2**20
AT_ONCE = 2
CHILD = Path(__file__).with_name("contained_child.py")
_INTROSPECTION = re.compile(
    r"\b(show|describe|summarize|information_schema|pg_\w+|duckdb_\w+|sqlite_\w+)\b", re.I
)
_MISTAKES = (
    "ParserException",
    "BinderException",
    "CatalogException",
    "SyntaxException",
    "OutOfMemoryException",
)
_ERROR_KIND = re.compile(r"^(?:\w*(?:Exception|Error): )?(?:[A-Z]\w*(?: \w+)? Error: )?")


@dataclass(frozen=True)
class ContainedResult:
    """Rows of a contained query with names and DuckDB types; ``truncated`` if there are more rows."""

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]
    seconds: float
    truncated: bool


@dataclass(frozen=True)
class ContainedFiles:
    """Rows of a contained query as files; only the contained process decodes values."""

    arrow: bytes
    csv: bytes
    parquet: bytes
    n_rows: int
    seconds: float
    truncated: bool


_slots = threading.BoundedSemaphore(AT_ONCE)


def run_contained(
    root: Path, sql: str, *, max_rows: int = 1_000, seconds: float = 15.0, snapshot: Snapshot | None = None
) -> ContainedResult:
    """Run one untrusted query.

    Args:
        root: Folder of the catalogue.
        sql: Exactly one SELECT (or EXPLAIN) on the catalogue's tables and views.
        max_rows: Limit on the number of rows.
        seconds: Wall time after which the process is killed.
        snapshot: A version other than the newest.

    Raises:
        UserError: for anything wrong with the query, its time or its memory, in one sentence.
    """
    started = time.monotonic()
    reply, _ = _run(root, sql, max_rows, seconds, snapshot, as_files=False)
    return ContainedResult(
        list(reply["columns"]),
        list(reply["types"]),
        [tuple(_value(item) for item in row) for row in reply["rows"]],
        time.monotonic() - started,
        bool(reply["truncated"]),
    )


def run_to_files(
    root: Path, sql: str, *, max_rows: int = 1_000, seconds: float = 15.0, snapshot: Snapshot | None = None
) -> ContainedFiles:
    """Run one untrusted query; return its rows as an Arrow stream, CSV and Parquet.

    Repeated column names are numbered, columns of mixed types become text. Arguments and errors are those of
    ``run_contained``; all files together have at most ``MAX_FILE_BYTES``.
    """
    started = time.monotonic()
    reply, content = _run(root, sql, max_rows, seconds, snapshot, as_files=True)
    ends = list(itertools.accumulate(int(size) for size in reply["sizes"]))
    arrow, csv, parquet = (content[start:end] for start, end in zip([0, *ends], ends, strict=False))
    return ContainedFiles(
        arrow, csv, parquet, int(reply["n_rows"]), time.monotonic() - started, bool(reply["truncated"])
    )


def _run(
    root: Path, sql: str, max_rows: int, seconds: float, snapshot: Snapshot | None, *, as_files: bool
) -> tuple[dict[str, Any], bytes]:
    if len(sql) > MAX_SQL_CHARS:
        raise UserError(f"the query has {len(sql)} characters; at most {MAX_SQL_CHARS} are allowed")
    request = _request(snapshot or newest_snapshot(root), sql, max_rows, seconds)
    request |= {"as_files": as_files, "max_bytes": MAX_FILE_BYTES if as_files else MAX_REPLY_BYTES}
    if not _slots.acquire(timeout=seconds):
        raise UserError(f"{AT_ONCE} other queries are running: try again when they have ended")
    try:
        reply, content = _ask(json.dumps(request).encode(), seconds)
    finally:
        _slots.release()
    if "refused" in reply:
        raise UserError(f"the query was refused: {reply['refused']}")
    if "error" in reply:
        error = str(reply["error"])
        is_mistake = error.startswith(_MISTAKES) or "out of memory" in error.lower()
        if not is_mistake and (damage := damage_sentence(root, list(request["tables"]))):
            raise CatalogueError(damage)
        raise UserError(f"the query failed: {_sentence(error)}")
    return reply, content


def needed_relations(sql: str) -> tuple[list[str], list[str]]:
    """Tables and derived views that ``sql`` may read; all of them if it reads the catalogue of the engine."""
    views = dict(derived_views())
    if _INTROSPECTION.search(sql):
        return list(TABLES), list(views)
    wanted = _names_in(sql, (*TABLES, *views))
    queue = [name for name in wanted if name in views]
    while queue:
        found = _names_in(views[queue.pop()], (*TABLES, *views)) - wanted
        queue += [name for name in found if name in views]
        wanted |= found
    return [name for name in TABLES if name in wanted], [name for name in views if name in wanted]


def _names_in(sql: str, names: Sequence[str]) -> set[str]:
    words = set(re.findall(r"\w+", sql.lower()))
    return {name for name in names if name in words}


def _request(snapshot: Snapshot, sql: str, max_rows: int, seconds: float) -> dict[str, Any]:
    tables, views = needed_relations(sql)
    return {
        "sql": sql,
        "max_rows": max_rows,
        "seconds": max(1, round(seconds)),
        "threads": THREADS,
        "memory_bytes": MEMORY_BYTES,
        "duckdb_memory": DUCKDB_MEMORY,
        "tables": {
            name: {
                "files": snapshot.paths(name),
                "schema": b64encode(TABLES[name].schema.serialize().to_pybytes()).decode(),
            }
            for name in tables
        },
        "views": [f"CREATE VIEW {name} AS {text}" for name, text in derived_views() if name in views],
    }


def _ask(request: bytes, seconds: float) -> tuple[dict[str, Any], bytes]:
    """Start the child, send it the request, read its answer, and make sure that it ends."""
    child = subprocess.Popen(
        [sys.executable, "-I", str(CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        cwd="/",
        start_new_session=True,
    )
    late = threading.Event()

    def stop() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(seconds, stop)
    timer.start()
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        try:
            child.stdin.write(request)
            child.stdin.close()
        except BrokenPipeError:
            reply = b""
        else:
            reply = child.stdout.read(MAX_REPLY_BYTES + 1)
    finally:
        child.kill()
        child.wait()
        timer.cancel()
        child.stdout.close()
    if late.is_set():
        raise UserError(f"the query was stopped after {seconds:g} s: narrow it down or add a LIMIT")
    said, _, content = reply.partition(b"\n")
    try:
        return dict(json.loads(said)), content
    except ValueError as error:
        raise UserError(
            f"the query was stopped: it needed more than {MEMORY_BYTES // 2**30} GiB of memory; "
            "narrow it down"
        ) from error


def _sentence(message: str) -> str:
    """The engine's message without class name and source excerpt."""
    if "out of memory" in message.lower():
        return f"it needs more memory than the limit of {DUCKDB_MEMORY}; narrow it down"
    text = " ".join(_ERROR_KIND.sub("", message.partition("\n\nLINE ")[0].strip()).split())
    if text.startswith("Table with name"):
        known = ", ".join([*TABLES, *(name for name, _ in derived_views())])
        return f"{text.partition('!')[0]}; tables and views are {known}"
    return text[:MAX_ERROR_CHARS]


_KINDS: dict[str, Callable[[str], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time_of_day.fromisoformat,
    "bytes": bytes.fromhex,
    "str": str,
}


def _value(item: Any) -> Any:
    if isinstance(item, list):
        return [_value(part) for part in item]
    if isinstance(item, dict):
        if item["kind"] == "dict":
            pairs = [(_value(key), _value(part)) for key, part in item["value"]]
            is_plain = all(not isinstance(key, list | dict) for key, _ in pairs)
            return dict(pairs) if is_plain else [list(pair) for pair in pairs]
        return _KINDS.get(item["kind"], str)(item["value"])
    return item
