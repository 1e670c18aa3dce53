"""All data that the page "What changed" shows about one comparison, from a few queries."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from catalog import queries
from catalog.errors import UserError
from catalog.query import Query
from dashboards import data
from dashboards.data import Catalogue, Row
from dashboards.selection import ChangeSelection

CONTEXTS_SHOWN = 10
"""Features with a context of both sides on the page: as many as a person reads."""
_LABELS = re.compile(r"labels (?P<label>.+): (?P<a>.+) \| (?P<b>.+)")


@dataclass(frozen=True)
class Changes:
    """One comparison: its headline, its features, their spread, and contexts by feature and side."""

    row: Row
    shifts: list[Row]
    spread: list[Row]
    contexts: dict[tuple[int, str], Row]
    queries: dict[str, Query]


def chosen(rows: Sequence[Row], selection: ChangeSelection) -> Row:
    """The comparison that an address names; the first if it names none.

    Raises:
        UserError: when the catalogue has no such comparison.
    """
    wanted = selection.to_url()
    for row in rows:
        if all(str(row[_COLUMNS[name]]) == value for name, value in wanted.items()):
            return row
    raise UserError("the catalogue has no such comparison: choose one of those in the list")


_COLUMNS: Mapping[str, str] = {
    "dictionary": "dictionary_id",
    "a": "set_a",
    "b": "set_b",
    "comparison": "comparison",
}


def gather(catalogue: Catalogue, row: Row) -> Changes:
    """Read one comparison."""
    key: Any = {name: row[name] for name in _COLUMNS.values()}
    asked = queries.shifts(**key)
    shifts = data.rows(catalogue, asked)
    indices = [int(shift["feature_index"]) for shift in shifts[:CONTEXTS_SHOWN]]
    sides = {name: row[name] for name in ("dictionary_id", "set_a", "set_b")}
    contexts = queries.shift_contexts(**sides, feature_indices=indices, **_documents(row))
    spread = queries.shift_distribution(**key)
    return Changes(
        row=row,
        shifts=shifts,
        spread=data.rows(catalogue, spread),
        contexts={(c["feature_index"], c["side"]): c for c in data.rows(catalogue, contexts)},
        queries={"Features": asked, "Spread": spread, "Contexts": contexts},
    )


def _documents(row: Row) -> dict[str, Any]:
    """What tells the documents of both sides apart, where both are in one set."""
    if row["kind"] == "growth":
        return {"newest": True}
    found = _LABELS.fullmatch(str(row["comparison"]))
    return {"label": found["label"], "value_a": found["a"], "value_b": found["b"]} if found else {}
