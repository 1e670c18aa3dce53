"""Floors beside a metric: a frozen decoder on the same set, the dictionary on random weights; and lineage."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from catalog import queries
from catalog.connection import connect
from catalog.slices import SliceWrite
from catalog.store import TableStore

ALIAS = "pico-a/blocks.2.resid_post"
FROZEN, WIDE = f"{ALIAS}/frozen_decoder-x4-s0-00000001", f"{ALIAS}/frozen_decoder-x64-s0-00000002"
REDRAWN = f"{ALIAS}/topk-on-random-00000003"
RANDOM_SET = "pico-random/blocks.2.resid_post-00000009"


@pytest.fixture
def metrics(root: Path, small: ModuleType) -> list[dict[str, Any]]:
    """Metrics of a dictionary, two frozen decoders, and of a dictionary of the random model."""
    frozen = {"architecture": "frozen_decoder"}
    rows = [
        *_metrics(small.DICTIONARY, small.SET, 0.1),
        *_metrics(FROZEN, small.SET, 0.3),
        *_metrics(WIDE, small.SET, 0.2),
        *_metrics(small.DICTIONARY, RANDOM_SET, 0.8),
        *_metrics(REDRAWN, RANDOM_SET, 0.7),
    ]
    models, _, sets = (write.rows.to_pylist() for write in small.models())
    random_model = {**models[0], "model_id": "pico-random", "source": "reinitialised"}
    random_set = {**sets[0], "activation_set_id": RANDOM_SET, "model_id": "pico-random"}
    slices = [
        *small.models(),
        SliceWrite("models", "random", small.table("models", [random_model])),
        SliceWrite("activation_sets", RANDOM_SET, small.table("activation_sets", [random_set])),
        SliceWrite("dictionaries", "own", small.dictionary()),
        SliceWrite("dictionaries", "frozen", small.dictionary(FROZEN, d_sae=8, **frozen)),
        SliceWrite("dictionaries", "wide", small.dictionary(WIDE, d_sae=512, **frozen)),
        SliceWrite("dictionaries", "redrawn", small.dictionary(REDRAWN, activation_set_id=RANDOM_SET)),
        SliceWrite("dictionary_metrics", "all", small.table("dictionary_metrics", rows)),
    ]
    with small.claim(root) as claim:
        claim.commit(slices, facts={})
    return rows


def _metrics(dictionary: str, activation_set: str, fvu: float) -> list[dict[str, Any]]:
    shared = {"dictionary_id": dictionary, "activation_set_id": activation_set, "split": "eval"}
    shared |= {"n": 10, "metric_version": 1}
    return [
        {**shared, "metric": "fvu", "variant": "", "value": fvu},
        {**shared, "metric": "ce_recovered", "variant": "mean_ablation", "value": 1 - fvu},
    ]


def test_a_metric_stands_beside_its_floors(
    metrics: list[dict[str, Any]], root: Path, small: ModuleType
) -> None:
    with connect(root) as connection:
        query = queries.dictionary_metrics(dictionary_ids=[small.DICTIONARY, REDRAWN])
        found = {(row["dictionary_id"], row["metric"]): row for row in query.read(connection).to_pylist()}
        by_id = {row["dictionary_id"]: row for row in queries.dictionaries().read(connection).to_pylist()}
    own, redrawn = found[small.DICTIONARY, "fvu"], found[REDRAWN, "fvu"]
    assert (own["value"], own["frozen_decoder"], own["random_model"]) == (0.1, 0.3, 0.8)
    assert (own["is_random_model"], redrawn["is_random_model"]) == (False, True)
    assert (redrawn["frozen_decoder"], redrawn["random_model"]) == (None, None)
    assert by_id[small.DICTIONARY]["fvu_frozen_decoder"] == 0.3, "the one nearest in width"
    assert by_id[small.DICTIONARY]["fvu_random_model"] == 0.8
    assert by_id[REDRAWN]["fvu_random_model"] is None, "its own set"
    assert by_id[FROZEN]["fvu_frozen_decoder"] == 0.2, "not its own"


def test_cross_entropy_is_not_recovered_on_random_weights(
    metrics: list[dict[str, Any]], root: Path, small: ModuleType
) -> None:
    with connect(root) as connection:
        by_id = {row["dictionary_id"]: row for row in queries.dictionaries().read(connection).to_pylist()}
        trends = queries.trends().read(connection).to_pylist()
        history = queries.metric_history(run_id="run-1").read(connection).to_pylist()
    assert by_id[small.DICTIONARY]["ce_recovered"] == pytest.approx(0.9)
    assert by_id[REDRAWN]["ce_recovered"] is None
    assert "no measure on random weights" in by_id[REDRAWN]["ce_note"]
    drawn = {(row["dictionary_id"], row["metric"]) for row in trends}
    assert {(REDRAWN, "fvu"), (small.DICTIONARY, "ce_recovered")} <= drawn
    assert (REDRAWN, "ce_recovered") not in drawn
    values = [row["value"] for row in history if row["metric"].startswith("ce_recovered")]
    assert sorted(values) == pytest.approx([0.7, 0.8, 0.9]), "without those on random weights"


@pytest.mark.parametrize("is_there", [True, False])
def test_a_parent_that_is_missing_is_a_fault(is_there: bool, root: Path, small: ModuleType) -> None:
    parent = FROZEN if is_there else "gone-00000000"
    slices = [
        *small.models(),
        SliceWrite("dictionaries", "child", small.dictionary(parent_dictionary_id=parent)),
        SliceWrite("dictionaries", "parent", small.dictionary(FROZEN)),
    ]
    with small.claim(root) as claim:
        claim.commit(slices, facts={})
    faults = [fault for fault in TableStore(root).verify() if "parent_dictionary_id" in fault]
    said = "dictionaries: 1 rows name parent_dictionary_id 'gone-00000000', which is not in dictionaries"
    assert faults == ([] if is_there else [said])
