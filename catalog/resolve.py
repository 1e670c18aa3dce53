"""Resolves names that a user types to ids of the catalogue."""

import difflib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.errors import UserError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

N_SUGGESTIONS = 3


@cache
def _named(name: str) -> str:
    return (Path(__file__).parent / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def resolve_dictionary(connection: "DuckDBPyConnection", name: str) -> str:
    """The ``dictionary_id`` that ``name`` (an id or an alias) refers to now.

    Raises:
        UserError: for an unknown name, with the closest known ones.
    """
    rows = connection.execute(_named("dictionary_names")).fetchall()
    known = {str(alias): str(dictionary_id) for alias, dictionary_id in rows}
    if name in known:
        return known[name]
    if not known:
        raise UserError(
            f"there is no dictionary {name!r}: the catalogue has none yet, run a pipeline first "
            "(`featlas run demo`)"
        )
    close = difflib.get_close_matches(name, known, N_SUGGESTIONS, cutoff=0.3) or sorted(known)[:N_SUGGESTIONS]
    raise UserError(f"there is no dictionary {name!r}; close names are {', '.join(close)}")
