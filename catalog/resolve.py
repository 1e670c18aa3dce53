"""Resolves names that a user types to ids of the catalogue."""

import difflib
from typing import TYPE_CHECKING

from catalog.errors import UserError
from catalog.queries import dictionary_names

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

N_SUGGESTIONS = 3


def resolve_dictionary(connection: "DuckDBPyConnection", name: str) -> str:
    """The ``dictionary_id`` that ``name`` (an id or an alias) refers to now.

    Raises:
        UserError: for an unknown name, with the closest known ones.
    """
    rows = dictionary_names().read(connection).to_pylist()
    known = {str(row["name"]): str(row["dictionary_id"]) for row in rows}
    if name in known:
        return known[name]
    if not known:
        raise UserError(
            f"there is no dictionary {name!r}: the catalogue has none yet, run a pipeline first "
            "(`featlas run demo`)"
        )
    close = difflib.get_close_matches(name, known, N_SUGGESTIONS, cutoff=0.3) or sorted(known)[:N_SUGGESTIONS]
    raise UserError(f"there is no dictionary {name!r}; close names are {', '.join(close)}")
