"""Looking at what a stage left in the catalogue, and changing one field of a configuration."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from catalog.connection import connect
from catalog.ledger import StageOutcome


def landed(root: Path, outcome: StageOutcome) -> dict[str, int]:
    """Rows in the catalogue that carry the fingerprint of an outcome, by table."""
    with connect(root) as connection:
        statement = "select 1 from {} where fingerprint = $1"
        found = {
            table: connection.execute(statement.format(table), [outcome.fingerprint]).fetchall()
            for table in outcome.rows
        }
    return {table: len(rows) for table, rows in found.items()}


def another(value: Any) -> Any:
    """A value of the same kind that is not ``value``; 300 where there is none yet."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        name = "seed" if "seed" in fields else next(iter(fields))
        return value.model_copy(update={name: another(getattr(value, name))})
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value + 0.01
    if isinstance(value, str):
        return f"another {value}"
    return ("another",) if isinstance(value, tuple) else 300
