"""A dictionary on a set other than its home, as a run commits it: half as dense, one feature with a label."""

from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from catalog.rows import with_constants
from catalog.store import SliceWrite

LABEL = "the word “else” in the other model"
LABELLED = 5


def commit_observation(
    commit: Any,
    dictionary: str,
    activation_set: str,
    features: pa.Table,
    examples: pa.Table,
    explained: pa.Table,
) -> None:
    """Commit rows of the home as evidence of another set, where the label of feature 5 is newer."""
    ids = {"dictionary_id": dictionary, "activation_set_id": activation_set}
    subject = f"{dictionary} on {activation_set}"
    place = features.column_names.index("density")
    features = features.set_column(place, "density", pc.divide(features["density"], 2.0))
    commit(
        "mine_examples",
        subject,
        [
            SliceWrite("features", subject, with_constants(features, **ids)),
            SliceWrite("examples", subject, with_constants(examples, **ids)),
        ],
    )
    rows = explained.filter(pc.equal(explained["feature_index"], LABELLED)).slice(0, 1).to_pylist()
    later = {"created_at": rows[0]["created_at"] + timedelta(hours=1)}
    label = [{**rows[0], **ids, **later, "explanation_id": "elsewhere-5", "text": LABEL}]
    table = pa.Table.from_pylist(label, schema=explained.schema)
    commit("explain_features", subject, [SliceWrite("explanations", subject, table)])


def shift_row(index: int, *, models: bool) -> dict[str, Any]:
    """A feature in a comparison; features 0 to 3 changed."""
    is_changed = index < 4
    shared = {
        "feature_index": index,
        "density_a": 0.02,
        "density_b": 0.08 if is_changed else 0.02,
        "effect": 2.5 - 0.1 * index if is_changed else 0.01 * (index % 5),
        "ci_low": -0.2,
        "ci_high": 3.1,
        "p_value": 0.0001 if is_changed else 0.6,
        "q_value": 0.001 if is_changed else 0.8,
        "metric_version": 1,
        "n_documents_a": 20,
        "n_documents_b": 20,
    }
    paired: dict[str, Any] = {
        "pearson": 0.99 - index / 400,
        "jaccard": 0.95 - index / 300,
        "overlap_top": 0.7,
        "consistency": 0.2,
    }
    is_silent = index in (1, 2, 3)
    if is_silent:
        paired |= {"revived": (None, True, False, None)[index], "probe_null": 0.55}
        paired |= {"probe_auroc": (None, 0.97, 0.61, None)[index]}
    return {**shared, **({**paired, "is_silent": is_silent} if models else {})}


def commit_shifts(commit: Any, columns: Any, dictionary: str, sets: tuple[str, str], n_features: int) -> None:
    """Commit a comparison of two models and one of two groups of documents of the first set."""
    for kind, named, (a, b) in (
        ("models", "models pico-a | pico-b", sets),
        ("labels", "labels kind: code | prose", (sets[0], sets[0])),
    ):
        subject = f"{dictionary} on {a} | {b}: {named}"
        ids = {"dictionary_id": dictionary, "set_a": a, "set_b": b, "comparison": named, "kind": kind}
        rows = [{**ids, **shift_row(index, models=kind == "models")} for index in range(n_features)]
        shifts = SliceWrite("feature_shifts", subject, columns("feature_shifts", rows))
        commit("compare_observations", subject, [shifts])


def association_row(index: int, value: str, auroc: float) -> dict[str, Any]:
    """A feature and a value of the label ``kind``, of forty documents."""
    return {
        "feature_index": index,
        "label": "kind",
        "value": value,
        "auroc": auroc,
        "mi_ratio": 1 + 40 * abs(auroc - 0.5),
        "n_documents": 40,
        "n_value": 14,
        "n_firing": 16,
        "n_both": 13 if auroc > 0.5 else 3,
        "p_value": 0.0002 if abs(auroc - 0.5) > 0.2 else 0.4,
        "q_value": 0.004 if abs(auroc - 0.5) > 0.2 else 0.7,
        "metric_version": 1,
    }


def commit_associations(commit: Any, columns: Any, dictionary: str, activation_set: str) -> None:
    """Commit associations of features 5 and 6 with a label, one value of which could break a page."""
    ids = {"dictionary_id": dictionary, "activation_set_id": activation_set}
    values = (("code", 0.94), ("prose", 0.12), ("<b>mixed</b> ![x](http://evil.example/y.png)", 0.55))
    rows = [{**ids, **association_row(index, *one)} for index in (5, 6) for one in values]
    subject = f"{dictionary} on {activation_set}"
    slices = [SliceWrite("associations", subject, columns("associations", rows))]
    facts = {**ids, "n_tests": 6, "n_found": 4, "skipped": ["label path has 40 values, and the limit is 20"]}
    commit("associate_labels", subject, slices, facts, {"min_documents": 5})


def commit_decodability(commit: Any, columns: Any, dictionary: str, activation_set: str) -> None:
    """Commit probes of feature 5 at three layers, of which the second is the first that suffices."""
    ids = {"dictionary_id": dictionary, "activation_set_id": activation_set, "feature_index": 5}
    shared = {"null_auroc": 0.5, "null_high": 0.54, "n_firing": 40, "n_tokens": 30_000, "metric_version": 1}
    rows = [
        {
            **ids,
            **shared,
            "hookpoint": f"blocks.{depth}.resid_post",
            "depth": depth,
            "is_own": depth == 2,
            "auroc": auroc,
            "is_decodable": auroc > 0.9,
            "is_first": depth == 1,
        }
        for depth, auroc in enumerate((0.71, 0.93, 0.99))
    ]
    subject = f"{dictionary} on {activation_set} layer_decodability"
    commit("evaluate_suite", subject, [SliceWrite("decodability", subject, columns("decodability", rows))])


def commit_neighbours(commit: Any, columns: Any, dictionary: str, activation_set: str) -> None:
    """Commit the near features of feature 5: one of each flag, one without figures of documents."""
    ids = {"dictionary_id": dictionary, "activation_set_id": activation_set, "feature_index": 5}
    shared = {"cosine_null": 0.31, "n_both": 40, "n_tokens": 200_000, "n_documents": 400, "metric_version": 1}
    pairs = (
        (6, 0.7, 0.12, "constructive", 1.1, 0.6, False),
        (7, 0.6, -0.02, "interference", None, None, None),
        (9, 0.4, 0.2, None, 3.4, 0.001, True),
    )
    rows = [
        {
            **ids,
            **shared,
            "neighbour_index": neighbour,
            "cosine": cosine,
            "jaccard": 0.4,
            "pearson": pearson,
            "geometry": geometry,
            "context_lift": None if lift is None else lift / 2,
            "document_lift": lift,
            "document_q": q,
            "confounded": confounded,
        }
        for neighbour, cosine, pearson, geometry, lift, q, confounded in pairs
    ]
    subject = f"{dictionary} on {activation_set} neighbours"
    slices = [SliceWrite("feature_neighbours", subject, columns("feature_neighbours", rows))]
    commit("mine_examples", subject, slices)


def commit_measures(commit: Any, columns: Any, dictionary: str, activation_set: str) -> None:
    """Commit what a page shows of a feature besides its examples."""
    commit_associations(commit, columns, dictionary, activation_set)
    commit_decodability(commit, columns, dictionary, activation_set)
    commit_neighbours(commit, columns, dictionary, activation_set)


def commit_floors(commit: Any, columns: Any, ids: dict[str, str]) -> None:
    """Commit a frozen decoder whose labels score almost as well: half of the labels do not exceed it."""
    labels = {"explainer": "lexical", "writer": "none", "scorer": "predicate", "judge": "none"}
    measured = {"value": 0.7, "ci_low": 0.68, "ci_high": 0.72, "n": 90, "threshold": 0.8}
    lift = {"lift": 0.1, "lift_ci_low": 0.07, "lift_ci_high": 0.13}
    kind = {"metric": "balanced_accuracy", "variant": "neighbour", "floor": "frozen_decoder"}
    table = columns("score_floors", [{**ids, **labels, **kind, **measured, **lift}])
    commit("measure_floors", ids["dictionary_id"], [SliceWrite("score_floors", ids["dictionary_id"], table)])
