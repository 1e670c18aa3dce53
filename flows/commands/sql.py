"""``featlas sql``: one contained query, or a small shell; rows as table, CSV, JSON or Parquet."""

import csv
import io
import json
import math
import sys
from collections.abc import Callable
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.contained import ContainedResult, run_contained
from catalog.errors import UserError
from catalog.settings import catalogue_root

if TYPE_CHECKING:
    import pyarrow as pa

SECONDS = 15
CELL_WIDTH = 60


def sql_command(
    query: str | None, catalogue: str | None, format_: str, output: Path | None, max_rows: int
) -> None:
    """Answer one query, or read queries from a shell until it ends.

    Raises:
        UserError: for a query that fails or is refused, or an unknown format.
    """
    root = catalogue_root(catalogue)
    if format_ not in FORMATS:
        raise UserError(f"there is no format {format_!r}; formats are {', '.join(FORMATS)}")
    if format_ == "parquet" and output is None:
        raise UserError("Parquet cannot be printed to a terminal: name a file with --output FILE")
    if query is None and sys.stdin.isatty():
        shell(root, max_rows)
        return
    text = query if query is not None else sys.stdin.read()
    result = run_contained(root, text, max_rows=max_rows, seconds=SECONDS)
    content = FORMATS[format_](result)
    if output is not None:
        output.write_bytes(content)
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    if result.truncated:
        print(f"featlas: only the first {max_rows} rows; raise --max-rows or aggregate", file=sys.stderr)


def shell(root: Path, max_rows: int) -> None:
    """Read statements that end with a semicolon and run them, until the end of the input."""
    import readline  # noqa: F401 (history and editing for input())

    print(f"{root}: one SELECT at a time, ending with ';'. Ctrl-D leaves.")
    waiting = ""
    while True:
        try:
            line = input("...... " if waiting else "featlas> ")
        except EOFError:
            print()
            return
        waiting = f"{waiting}\n{line}".strip()
        if not waiting.endswith(";"):
            continue
        try:
            result = run_contained(root, waiting, max_rows=max_rows, seconds=SECONDS)
            sys.stdout.write(as_table(result).decode())
        except UserError as error:
            print(error, file=sys.stderr)
        waiting = ""


def as_table(result: ContainedResult) -> bytes:
    """Aligned columns; long cells are cut, control characters are shown as escapes."""
    rows = [[_cell(value) for value in row] for row in result.rows]
    widths = [max([len(name), *(len(row[i]) for row in rows)]) for i, name in enumerate(result.columns)]
    is_number = [
        all(isinstance(row[i], int | float | Decimal | None) for row in result.rows)
        for i in range(len(widths))
    ]
    lines = [
        "  ".join(name.ljust(width) for name, width in zip(result.columns, widths, strict=True)).rstrip()
    ]
    lines.append("  ".join("-" * width for width in widths))
    for row in rows:
        cells = zip(row, widths, is_number, strict=True)
        lines.append(
            "  ".join(cell.rjust(w) if right else cell.ljust(w) for cell, w, right in cells).rstrip()
        )
    lines.append(f"{len(rows)} row{'s' if len(rows) != 1 else ''} in {result.seconds:.2f} s")
    return ("\n".join(lines) + "\n").encode()


def as_csv(result: ContainedResult) -> bytes:
    """CSV with a header; nested values as JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(result.columns)
    for row in result.rows:
        writer.writerow([_flat(value) for value in row])
    return text.getvalue().encode()


def as_json(result: ContainedResult) -> bytes:
    """A JSON list with one object per row; NaN and infinities, which JSON does not have, are null."""
    rows = [dict(zip(result.columns, map(_plain, row), strict=True)) for row in result.rows]
    return (_json(rows) + "\n").encode("utf-8", "backslashreplace")


def as_parquet(result: ContainedResult) -> bytes:
    """A Parquet file with one column per result column; values of different types become text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [_array([row[i] for row in result.rows]) for i in range(len(result.columns))]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(columns, names=list(result.columns)), sink)
    return bytes(sink.getvalue().to_pybytes())


FORMATS: dict[str, Callable[[ContainedResult], bytes]] = {
    "table": as_table,
    "csv": as_csv,
    "json": as_json,
    "parquet": as_parquet,
}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else str(_flat(value))
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= CELL_WIDTH else shown[: CELL_WIDTH - 1] + "…"


def _array(values: list[Any]) -> "pa.Array":
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([None if value is None else str(_flat(value)) for value in values])


def _flat(value: Any) -> Any:
    return _json(_plain(value)) if isinstance(value, list | dict | tuple) else value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, bool | int | str | None) else str(value)
