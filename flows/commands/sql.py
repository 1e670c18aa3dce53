"""``featlas sql``: one contained query, or a small shell; rows as table, CSV, JSON or Parquet."""

import csv
import io
import json
import sys
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from catalog.contained import ContainedResult, run_contained
from catalog.errors import UserError
from catalog.settings import catalogue_root

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
        raise UserError("Parquet is not for the terminal: name a file with --output FILE")
    if query is None and sys.stdin.isatty():
        shell(root, max_rows)
        return
    text = query if query is not None else sys.stdin.read()
    result = run_contained(root, text, max_rows=max_rows, seconds=SECONDS)
    content = FORMATS[format_](result)
    if output is not None:
        output.write_bytes(content)
    else:
        sys.stdout.write(content.decode())
    if result.truncated:
        print(f"featlas: only the first {max_rows} rows; raise --max-rows or aggregate", file=sys.stderr)


def shell(root: Path, max_rows: int) -> None:
    """Read statements that end with a semicolon and answer them, until end of input."""
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
    """A JSON list with one object per row."""
    rows = [dict(zip(result.columns, row, strict=True)) for row in result.rows]
    return (json.dumps(rows, default=_json_value, ensure_ascii=False) + "\n").encode()


def as_parquet(result: ContainedResult) -> bytes:
    """A Parquet file with one column per result column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [pa.array([row[i] for row in result.rows]) for i in range(len(result.columns))]
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


def _flat(value: Any) -> Any:
    if isinstance(value, list | dict | tuple):
        return json.dumps(value, default=_json_value, ensure_ascii=False)
    return value


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return str(value)
