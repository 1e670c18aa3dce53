"""Readable names of dictionaries: the last committed row of ``aliases`` decides what a name refers to."""

from datetime import UTC, datetime
from pathlib import Path

from catalog import queries
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
    current = read(lambda connection: queries.alias(alias=alias).read(connection).to_pylist(), root)
    if not current or current[0]["dictionary_id"] == dictionary_id:
        return False
    write = alias_write(alias, dictionary_id)
    publish_rows(root, [write], fingerprint=digest([alias, dictionary_id, str(datetime.now(UTC))]))
    return True
