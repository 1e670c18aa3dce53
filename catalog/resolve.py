"""Resolves names that a user types to ids of the catalogue."""

import heapq
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
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
    known = _known(connection)
    if name in known:
        return known[name]
    _check_any(known, name)
    close = ", ".join(close_names(name, known))
    raise UserError(f"there is no dictionary {name!r}; close names are {close}")


def resolve_dictionaries(connection: "DuckDBPyConnection", patterns: Sequence[str]) -> list[str]:
    """The ids of the dictionaries that patterns name, each once: pattern by pattern, within one by alias.

    Args:
        connection: A connection of ``catalog.connection``.
        patterns: Aliases, ids or globs. An alias refers to the dictionary that it was last assigned to.
            A glob (``*``, ``?``, ``[...]``; ``*`` also matches slashes) is compared with the aliases, and
            with the ids of the dictionaries to which they refer.

    Raises:
        UserError: for a pattern that names none, with the closest aliases.
    """
    known = _known(connection)
    aliases = {name: found for name, found in sorted(known.items()) if name != found}
    ids: dict[str, None] = {}
    for pattern in patterns:
        matching = [
            found
            for alias, found in aliases.items()
            if fnmatchcase(alias, pattern) or fnmatchcase(found, pattern)
        ]
        named = [known[pattern]] if pattern in known else matching
        if not named:
            _check_any(known, pattern)
            close = ", ".join(close_names(pattern, aliases or known))
            raise UserError(f"no dictionary of the catalogue matches {pattern!r}; close names are {close}")
        ids |= dict.fromkeys(named)
    return list(ids)


def close_names(name: str, known: Iterable[str], n: int = N_SUGGESTIONS) -> list[str]:
    """The ``n`` known names that are most similar to ``name``, whole or cut to its length, best first."""

    def likeness(other: str) -> float:
        return max(SequenceMatcher(None, name, text).ratio() for text in (other, other[: len(name)]))

    return heapq.nlargest(n, sorted(known), key=likeness)


def _known(connection: "DuckDBPyConnection") -> dict[str, str]:
    """Every name of a dictionary and the id that it refers to."""
    rows = dictionary_names().read(connection).to_pylist()
    return {str(row["name"]): str(row["dictionary_id"]) for row in rows}


def _check_any(known: Iterable[str], name: str) -> None:
    if not any(True for _ in known):
        raise UserError(
            f"there is no dictionary {name!r}: the catalogue has none yet, run a pipeline first "
            "(`featlas run demo`)"
        )
