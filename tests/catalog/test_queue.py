"""The order in which labels and reviews are worth most, on features whose reason is known."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from catalog.connection import connect
from catalog.label_queue import chosen_features
from catalog.slices import SliceWrite
from catalog.store import publish_rows

NO_LABEL, DOUBTED, UNPROVEN, DISPUTED, MATCHED, COMMON, USUAL, UNSEEN = range(8)
REASONS = {
    NO_LABEL: "has no current label",
    DOUBTED: "a person doubts the label",
    UNPROVEN: "the label is not above chance",
    DISPUTED: "judges disagree about the label",
    MATCHED: "matches features of other dictionaries",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, small: ModuleType) -> Path:
    """One feature for each reason; without it a feature fires on one token in a million, and is labelled."""
    root = tmp_path_factory.mktemp("queue") / "catalogue"
    ids = {"dictionary_id": small.DICTIONARY, "activation_set_id": small.SET}
    features = small.features(n=8).to_pylist()
    for row in features:
        row["density"] = 1e-6
    features[USUAL] |= {"density": 1e-3}
    features[COMMON] |= {"density": 0.9}
    features[UNSEEN] |= {"status": "unseen", "density": 0.0}
    explanations = [row for row in small.explanations(n=7).to_pylist() if row["feature_index"] != NO_LABEL]
    common = {**ids, "scorer": "predicate", "metric": "balanced_accuracy", "variant": "mixed", "seed": 0}
    common |= {"ci_low": 0.4, "ci_high": 1.0, "chance": 0.5, "n": 40, "answered_share": 1.0, "position": 0}
    common |= {"negatives": "mixed", "created_at": small.NOW}
    scores: list[dict[str, Any]] = []
    for row in explanations:
        of_label = {"explanation_id": row["explanation_id"], "feature_index": row["feature_index"]}
        proven = row["feature_index"] != UNPROVEN
        scores.append({**common, **of_label, "judge": "none", "value": 0.9, "above_chance": proven})
        if row["feature_index"] == DISPUTED:
            scores.append(
                {**common, **of_label, "judge": "m", "value": 0.4, "above_chance": False, "position": 1}
            )
    vote = {"annotation_id": "v", "dictionary_id": small.DICTIONARY, "feature_index": DOUBTED, "author": "a"}
    match = {"dictionary_a": small.DICTIONARY, "feature_a": MATCHED, "dictionary_b": "b", "feature_b": 1}
    match |= {"method": "decoder_cosine", "activation_sets": "s", "score": 0.9, "rank": 0, "mutual": True}
    tables = {
        "features": features,
        "explanations": explanations,
        "scores": scores,
        "annotations": [{**vote, "kind": "vote", "text": "wrong", "created_at": small.NOW}],
        "matches": [{**match, "n": 10, "verdict": "same"}],
    }
    writes = [SliceWrite(name, small.DICTIONARY, small.table(name, rows)) for name, rows in tables.items()]
    publish_rows(root, writes, fingerprint="queue")
    return root


def test_each_feature_has_its_reason(root: Path) -> None:
    with connect(root) as connection:
        rows = connection.execute("select feature_index, reason, priority from label_queue").fetchall()
    reasons = {index: reason for index, reason, _ in rows}
    assert {index: reasons[index] for index in REASONS} == REASONS
    assert UNSEEN not in reasons
    priority = {index: value for index, _, value in rows}
    assert priority[USUAL] == pytest.approx(1.0, abs=1e-6), "the density at which concepts are found"
    assert priority[COMMON] < 0.05
    assert priority[NO_LABEL] == pytest.approx(4.0)


def test_the_order_is_that_of_the_worth(root: Path, small: ModuleType) -> None:
    found = chosen_features(root, small.DICTIONARY, small.SET)
    assert found[:3] == [NO_LABEL, DOUBTED, UNPROVEN]
    assert set(found[3:5]) == {DISPUTED, USUAL}
    assert found[5:] == [MATCHED, COMMON]


def test_a_condition_sees_every_column_of_the_queue(root: Path, small: ModuleType) -> None:
    ids = (root, small.DICTIONARY, small.SET)
    assert chosen_features(*ids, where="label is null") == [NO_LABEL]
    assert chosen_features(*ids, where="score > 0.5 and not above_chance") == [UNPROVEN]
    assert chosen_features(*ids, where="n_matches > 0") == [MATCHED]
    assert chosen_features(*ids, order="density desc", n_features=1) == [COMMON]
    assert chosen_features(*ids, where="alias = 'no such'") == []
