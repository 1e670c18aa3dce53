"""A named query with its parameters: what programs run, and what pages run, cache and show."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from catalog.relations import over_files
from catalog.statements import bound

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# DuckDB suggests `sql`, which spares a copy of the rows but plans the query twice: a fifth of a page's time.
warnings.filterwarnings("ignore", "Arrow output on a DB-API result", UserWarning)

SQL_FOLDER = Path(__file__).parent / "sql"
FILES = "files"
"""The parameter that names the files which stand for the whole table ``examples``."""


@cache
def query_text(name: str) -> str:
    """The text of ``sql/<name>.sql``, with its ``$parameters``."""
    return (SQL_FOLDER / f"{name}.sql").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Query:
    """The query ``sql/<name>.sql`` with a value for each parameter; lists are kept as tuples."""

    name: str
    parameters: tuple[tuple[str, Any], ...]

    @property
    def values(self) -> dict[str, Any]:
        """The parameters of the SQL text by name."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.parameters
            if name != FILES
        }

    @property
    def statement(self) -> str:
        """The query as it runs in any DuckDB on the catalogue: its parameters are literals."""
        return bound(query_text(self.name), self.values)

    def read(self, connection: "DuckDBPyConnection") -> pa.Table:
        """Run the query and fetch all rows; with ``files``, ``examples`` is those files only."""
        text, files = query_text(self.name), dict(self.parameters).get(FILES)
        if files is not None:
            text = over_files(text, "examples", files)
        return connection.execute(text, self.values or None).to_arrow_table()


def named(name: str, given: Mapping[str, Any]) -> Query:
    """The query ``name`` with the parameters ``given``."""
    pairs = ((key, tuple(value) if isinstance(value, list) else value) for key, value in given.items())
    return Query(name, tuple(pairs))
