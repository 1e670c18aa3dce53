"""Readable names of dictionaries: the last committed row of ``aliases`` decides what a name refers to."""

from datetime import UTC, datetime
from pathlib import Path

from catalog.connection import read
from catalog.ids import digest
from catalog.rows import rows_of
from catalog.store import SliceWrite, publish_rows


def alias_write(alias: str, dictionary_id: str) -> SliceWrite:
    """The row that a stage commits with a new dictionary: from now on the alias refers to it."""
    row = {"alias": alias, "valid_from": datetime.now(UTC), "dictionary_id": dictionary_id}
    return SliceWrite("aliases", alias, rows_of("aliases", [row]))


def point_alias(root: Path, alias: str, dictionary_id: str) -> bool:
    """Point an alias back to a dictionary that was found again after another one took the alias.

    Returns:
        Whether anything changed.
    """
    query = "select dictionary_id from current_aliases where alias = $alias"
    current = read(lambda connection: connection.execute(query, {"alias": alias}).fetchone(), root)
    if current is None or current[0] == dictionary_id:
        return False
    write = alias_write(alias, dictionary_id)
    publish_rows(root, [write], fingerprint=digest([alias, dictionary_id, str(datetime.now(UTC))]))
    return True
