"""All data that the feature page shows about one feature, from a few queries."""

import random
from dataclasses import dataclass
from typing import Any

from catalog import queries
from catalog.errors import UserError
from catalog.query import Query
from dashboards import data, links
from dashboards.data import Catalogue, Row
from dashboards.selection import FeatureSelection


@dataclass(frozen=True)
class Evidence:
    """One feature and its data; ``previous`` and ``following`` are addresses."""

    row: Row
    examples: list[Row]
    explanations: list[Row]
    scores: list[Row]
    matches: list[Row]
    near: list[Row]
    stages: list[Row]
    sets: list[Row]
    associations: list[Row]
    association_tests: Row | None
    decodability: list[Row]
    labels: dict[tuple[str, int], str]
    previous: str | None
    following: str | None
    queries: dict[str, Query]


def gather(catalogue: Catalogue, selection: FeatureSelection) -> Evidence:
    """Read one feature.

    Raises:
        UserError: when the dictionary or the feature is not in the catalogue.
    """
    dictionary = data.dictionary_id(catalogue, selection.dictionary)
    index = selection.feature_index
    asked = queries.feature(
        dictionary_id=dictionary, feature_index=index, activation_set_id=selection.activation_set
    )
    row = data.one(catalogue, asked)
    if row is None:
        where = f" on activation set {selection.activation_set}" if selection.activation_set else ""
        raise UserError(
            f"{dictionary} has no feature {index}{where}: choose another index, or browse its features"
        )
    activation_set = row["activation_set_id"]
    shown = _queries(dictionary, index, activation_set)
    step = queries.feature_step(
        dictionary_id=dictionary, activation_set_id=activation_set, feature_index=index
    )
    neighbours = data.one(catalogue, step) or {}
    matches = data.rows(catalogue, shown["Its matches"])
    explanations = data.rows(catalogue, shown["Its explanations"])
    made_by = sorted({row["fingerprint"], *(e["fingerprint"] for e in explanations[:3])})
    return Evidence(
        row=row,
        examples=data.examples(catalogue, dictionary, activation_set, index),
        explanations=explanations,
        scores=data.rows(catalogue, shown["Their scores"]),
        matches=matches,
        near=data.rows(catalogue, shown["Its near features"]),
        stages=data.rows(catalogue, queries.provenance(fingerprints=made_by)),
        sets=data.rows(catalogue, shown["Its activation sets"]),
        associations=data.rows(catalogue, shown["Its document labels"]),
        association_tests=data.one(catalogue, shown["Labels tested on this set"]),
        decodability=data.rows(catalogue, shown["Where it is decodable"]),
        labels=_labels(catalogue, row, matches),
        previous=_address(selection, neighbours.get("previous_index")),
        following=_address(selection, neighbours.get("next_index")),
        queries=shown,
    )


def _queries(dictionary: str, index: int, activation_set: str) -> dict[str, Query]:
    """The queries shown below the page."""
    key: Any = {"dictionary_id": dictionary, "feature_index": index}
    where: Any = {"dictionary_id": dictionary, "activation_set_id": activation_set}
    return {
        "The feature": queries.feature(**key, activation_set_id=activation_set),
        "Its examples": queries.feature_examples(**key, activation_set_id=activation_set),
        "Its document labels": queries.feature_associations(**where, feature_index=index),
        "Labels tested on this set": queries.association_tests(**where),
        "Where it is decodable": queries.feature_decodability(**where, feature_index=index),
        "Its near features": queries.feature_neighbours(**where, feature_index=index),
        "Its activation sets": queries.feature_sets(**key),
        "Its explanations": queries.feature_explanations(**key, activation_set_id=activation_set),
        "Their scores": queries.feature_scores(**key),
        "Its matches": queries.feature_matches(**key),
    }


def random_feature(catalogue: Catalogue, dictionary: str | None) -> dict[str, str]:
    """The address of any firing feature, of one dictionary or of all current ones.

    Raises:
        UserError: when there is none.
    """
    known = data.dictionary_id(catalogue, dictionary) if dictionary else None
    found = data.one(catalogue, queries.random_feature(dictionary_id=known, seed=random.getrandbits(31)))
    if found is None:
        raise UserError("no feature fires: mine a dictionary first")
    return {"dictionary": dictionary or found["dictionary_id"], "feature": str(found["feature_index"])}


def _labels(catalogue: Catalogue, row: Row, matches: list[Row]) -> dict[tuple[str, int], str]:
    """Labels of the nearest features, of the parent and of the matching ones, by dictionary and index."""
    near = (*row["nearest_by_decoder"], *row["nearest_by_coactivation"])
    wanted = {(row["dictionary_id"], n["feature_index"]) for n in near}
    wanted |= {(match["dictionary_id"], match["feature_index"]) for match in matches}
    if row["parent_feature"] is not None:
        wanted.add((row["dictionary_id"], row["parent_feature"]))
    if not wanted:
        return {}
    names, indices = zip(*sorted(wanted), strict=True)
    found = data.rows(catalogue, queries.labels(dictionary_ids=names, feature_indices=indices))
    return {(label["dictionary_id"], label["feature_index"]): label["label"] for label in found}


def _address(selection: FeatureSelection, index: int | None) -> str | None:
    return None if index is None else links.feature(selection.dictionary, index, selection.activation_set)
