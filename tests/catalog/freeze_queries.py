"""Write the result columns of every named query into ``tests/golden/query_columns.json``.

Run ``python tests/catalog/freeze_queries.py`` after a query changed. Pages and programs read these names.
"""

import inspect
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import duckdb

from catalog import queries
from catalog.connection import connect
from catalog.query import Query

GOLDEN = Path(__file__).parents[1] / "golden" / "query_columns.json"
ANY_VALUE: dict[Any, Any] = {str: "a", int: 1, Sequence[str]: ["a"], Sequence[int]: [1]}


def functions() -> dict[str, Callable[..., Query]]:
    """The functions of the query module that return a query, but not the one that makes queries."""
    found = inspect.getmembers(queries, inspect.isfunction)
    return {name: function for name, function in found if function.__module__ != Query.__module__}


def result_columns(connection: duckdb.DuckDBPyConnection, name: str) -> dict[str, str]:
    """Column → Arrow type of a query's result, with any value for the parameters that must be given."""
    function = functions()[name]
    hints = get_type_hints(function)
    parameters = inspect.signature(function).parameters.values()
    given = {p.name: ANY_VALUE[hints[p.name]] for p in parameters if p.default is p.empty}
    schema = function(**given).read(connection).schema
    return {field.name: str(field.type) for field in schema}


def frozen() -> dict[str, dict[str, str]]:
    """The golden file: query → column → type."""
    content: dict[str, dict[str, str]] = json.loads(GOLDEN.read_text())
    return content


def main() -> None:
    """Write the golden file again."""
    with tempfile.TemporaryDirectory() as root, connect(root) as connection:
        found = {name: result_columns(connection, name) for name in sorted(functions())}
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
