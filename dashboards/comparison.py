"""The content of the compare page for two dictionaries or two features."""

from dataclasses import dataclass

from catalog.errors import UserError
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
    queries: dict[str, str]


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
    queries: dict[str, str]

    def scale(self, side: str) -> float:
        """The activation drawn in full colour on a side: the maximum of its feature, to compare the sides."""
        return (self.a if side == "a" else self.b).largest


def compare_dictionaries(catalogue: Catalogue, a: str, b: str) -> Dictionaries:
    """Read how two dictionaries match."""
    there, back = {"dictionary_a": a, "dictionary_b": b}, {"dictionary_a": b, "dictionary_b": a}
    of_both = {"dictionary_ids": (a, b)}
    known = {row["dictionary_id"]: row for row in data.rows(catalogue, "dictionaries")}
    return Dictionaries(
        a,
        b,
        [known[a], known[b]],
        data.rows(catalogue, "dictionary_metrics", **of_both),
        data.rows(catalogue, "compare_rates", **there),
        data.rows(catalogue, "compare_rates", **back),
        data.rows(catalogue, "match_rates", **there),
        data.rows(catalogue, "compare_scores", **there),
        data.rows(catalogue, "compare_matches", **there),
        data.rows(catalogue, "compare_unmatched", **there),
        data.rows(catalogue, "compare_unmatched", **back),
        {
            "Measures": data.query("dictionary_metrics", **of_both),
            "Match rate by density": data.query("compare_rates", **there),
            "Called the same": data.query("match_rates", **there),
            "Distribution of scores": data.query("compare_scores", **there),
            "Matches": data.query("compare_matches", **there),
            "Unmatched": data.query("compare_unmatched", **there),
        },
    )


def compare_features(catalogue: Catalogue, a: Side, b: Side) -> Features:
    """Read two features and what they share.

    Raises:
        UserError: when one of them is not in the catalogue.
    """
    sides = [_side(catalogue, side) for side in (a, b)]
    key = {
        "dictionary_a": a.dictionary,
        "feature_a": a.feature_index,
        "dictionary_b": b.dictionary,
        "feature_b": b.feature_index,
    }
    files = [data.example_files(catalogue, side.dictionary, side.feature_index or 0) for side in (a, b)]
    both = tuple(dict.fromkeys((*files[0], *files[1])))
    common = data.rows(catalogue, "common_contexts", files=both, **key) if all(files) else []
    queries = {
        "The pair": data.query("pair", **key),
        "Shared contexts": data.query("common_contexts", **key),
    }
    return Features(sides[0], sides[1], data.rows(catalogue, "pair", **key), common, queries)


def _side(catalogue: Catalogue, side: Side) -> FeatureSide:
    index = side.feature_index or 0
    key = {"dictionary_id": side.dictionary, "feature_index": index}
    row = data.one(catalogue, "feature", **key, activation_set_id=None)
    if row is None:
        raise UserError(
            f"{side.dictionary} has no feature {index}: choose another index, or browse its features"
        )
    label = data.one(catalogue, "labels", dictionary_ids=(side.dictionary,), feature_indices=(index,))
    return FeatureSide(
        side.text, row, label, data.examples(catalogue, side.dictionary, row["activation_set_id"], index)
    )
