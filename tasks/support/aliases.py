"""Readable names of dictionaries: the row of ``aliases`` that was committed last says what a name means."""

from datetime import UTC, datetime
from pathlib import Path

from catalog.connection import read
from catalog.ids import digest
from catalog.rows import rows_of
from catalog.store import SliceWrite, publish_rows


def alias_write(alias: str, dictionary_id: str) -> SliceWrite:
    """What a stage commits beside a new dictionary: from now on the name means it."""
    row = {"alias": alias, "valid_from": datetime.now(UTC), "dictionary_id": dictionary_id}
    return SliceWrite("aliases", alias, rows_of("aliases", [row]))


def point_alias(root: Path, alias: str, dictionary_id: str) -> bool:
    """Let a name mean a dictionary that was found again after another one had taken the name.

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
