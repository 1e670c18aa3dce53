"""The texts of the pages' queries: how to read one, show it with its values, and run it."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files as resources
from typing import Any, Literal

import duckdb
import pyarrow as pa

from catalog.relations import of_files
from catalog.statements import bound

Sort = Literal[
    "score",
    "score_up",
    "density",
    "rare",
    "activation",
    "activation_up",
    "matches",
    "matches_up",
    "label",
    "label_down",
    "index",
    "index_down",
]


@cache
def page_sql(name: str) -> str:
    """The text of ``sql/page_<name>.sql``, with its ``$parameters``."""
    return (resources("catalog") / "sql" / f"page_{name}.sql").read_text(encoding="utf-8")


def statement(name: str, parameters: Mapping[str, Any]) -> str:
    """The query with its parameters as literals, so that it runs in any DuckDB on the catalogue."""
    return bound(page_sql(name), parameters)


def read(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    parameters: Mapping[str, Any],
    files: Sequence[str] | None = None,
) -> pa.Table:
    """Run a query; with ``files``, ``examples`` is read from these files only."""
    text = page_sql(name)
    if files is not None:
        text, parameters = of_files(text, "examples"), {**parameters, "files": list(files)}
    if not parameters:
        return connection.sql(text).to_arrow_table()
    return connection.sql(text, params=dict(parameters)).to_arrow_table()
