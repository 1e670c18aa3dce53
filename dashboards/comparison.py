"""The content of the compare page for two dictionaries or two features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from catalog import queries
from catalog.errors import UserError
from catalog.query import Query
from dashboards import data
from dashboards.data import Catalogue, Row
from dashboards.selection import Side


@dataclass(frozen=True)
class Dictionaries:
    """Two dictionaries with their measures, and how their features match; ``rows`` has them in order."""

    a: str
    b: str
    rows: list[Row]
    metrics: list[Row]
    rates_a: list[Row]
    rates_b: list[Row]
    floors: list[Row]
    scores: list[Row]
    matches: list[Row]
    unmatched_a: list[Row]
    unmatched_b: list[Row]
    queries: dict[str, Query]


@dataclass(frozen=True)
class FeatureSide:
    """One feature of a pair: its row, best label and examples."""

    name: str
    row: Row
    label: Row | None
    examples: list[Row]

    @property
    def largest(self) -> float:
        """Its maximum activation, 0 if it never fired."""
        return float(self.row["max_activation"] or 0.0)


@dataclass(frozen=True)
class Features:
    """Two features, the contexts that they share and their matching results."""

    a: FeatureSide
    b: FeatureSide
    pair: list[Row]
    common: list[Row]
    queries: dict[str, Query]

    def scale(self, side: str) -> float:
        """The activation drawn in full colour on a side: the maximum of its feature, to compare the sides."""
        return (self.a if side == "a" else self.b).largest


def first_pair(catalogue: Catalogue, known: Sequence[Row]) -> list[str]:
    """The dictionaries with which the page begins: two that were matched, else the first of the catalogue."""
    compared = data.one(catalogue, queries.first_pair())
    return [
        str(name) for name in (compared.values() if compared else (row["dictionary_id"] for row in known))
    ]


def compare_dictionaries(catalogue: Catalogue, a: str, b: str) -> Dictionaries:
    """Read how two dictionaries match."""
    known = {row["dictionary_id"]: row for row in data.rows(catalogue, queries.dictionaries())}
    back: Any = {"dictionary_a": b, "dictionary_b": a}
    shown = _queries(a, b)
    return Dictionaries(
        a=a,
        b=b,
        rows=[known[a], known[b]],
        metrics=data.rows(catalogue, shown["Measures"]),
        rates_a=data.rows(catalogue, shown["Match rate by density"]),
        rates_b=data.rows(catalogue, queries.compare_rates(**back)),
        floors=data.rows(catalogue, shown["Called the same"]),
        scores=data.rows(catalogue, shown["Distribution of scores"]),
        matches=data.rows(catalogue, shown["Matches"]),
        unmatched_a=data.rows(catalogue, shown["Unmatched"]),
        unmatched_b=data.rows(catalogue, queries.compare_unmatched(**back)),
        queries=shown,
    )


def _queries(a: str, b: str) -> dict[str, Query]:
    """The queries shown below the page."""
    there: Any = {"dictionary_a": a, "dictionary_b": b}
    return {
        "Measures": queries.dictionary_metrics(dictionary_ids=(a, b)),
        "Match rate by density": queries.compare_rates(**there),
        "Called the same": queries.match_rates(**there),
        "Distribution of scores": queries.compare_scores(**there),
        "Matches": queries.compare_matches(**there),
        "Unmatched": queries.compare_unmatched(**there),
    }


def compare_features(catalogue: Catalogue, a: Side, b: Side) -> Features:
    """Read two features and what they share.

    Raises:
        UserError: when one of them is not in the catalogue.
    """
    sides = [_side(catalogue, side) for side in (a, b)]
    key: Any = {
        "dictionary_a": a.dictionary,
        "feature_a": a.feature_index,
        "dictionary_b": b.dictionary,
        "feature_b": b.feature_index,
    }
    files = [data.example_files(catalogue, side.dictionary, side.feature_index or 0) for side in (a, b)]
    both = tuple(dict.fromkeys((*files[0], *files[1])))
    common = data.rows(catalogue, queries.common_contexts(**key, files=both)) if all(files) else []
    shown = {"The pair": queries.pair(**key), "Shared contexts": queries.common_contexts(**key)}
    return Features(sides[0], sides[1], data.rows(catalogue, shown["The pair"]), common, shown)


def _side(catalogue: Catalogue, side: Side) -> FeatureSide:
    index = side.feature_index or 0
    row = data.one(catalogue, queries.feature(dictionary_id=side.dictionary, feature_index=index))
    if row is None:
        raise UserError(
            f"{side.dictionary} has no feature {index}: choose another index, or browse its features"
        )
    named = queries.labels(dictionary_ids=(side.dictionary,), feature_indices=(index,))
    label = data.one(catalogue, named)
    return FeatureSide(
        side.text, row, label, data.examples(catalogue, side.dictionary, row["activation_set_id"], index)
    )
