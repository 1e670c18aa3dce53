"""Columns that only some methods have, against a plain loop over the stored activations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from tasks.activations.reading.shards import ActivationSet
from tasks.dictionaries.base import Dictionary, build_dictionary, dictionary_config
from tasks.mining import nearest
from tasks.mining.config import MiningConfig
from tasks.mining.miner import mine
from tasks.mining.nearest import Coactivation

N_FEATURES = 12
CONFIG = MiningConfig(
    window_tokens=8, tokens_before_peak=5, chunk_tokens=16, n_top=2, n_per_band=0, n_random=0, n_neighbour=0
)


def eye_dictionary(name: str, **fields: Any) -> Dictionary:
    """A dictionary of some method whose directions are the axes."""
    config = dictionary_config({"architecture": name, "d_sae": N_FEATURES, "n_tokens": 1, **fields})
    dictionary = build_dictionary(config, N_FEATURES).requires_grad_(False)
    dictionary.W_enc.copy_(torch.eye(N_FEATURES))
    dictionary.W_dec.copy_(torch.eye(N_FEATURES))
    return dictionary


def mined_rows(
    dictionary: Dictionary, activation_set: ActivationSet, documents: pa.Table, scratch: Path
) -> list[dict[str, Any]]:
    found = mine(dictionary, activation_set, documents, None, CONFIG, scratch)
    return list(found.features.to_pylist())


def valid_activations(activation_set: ActivationSet) -> np.ndarray:
    valid = np.asarray(activation_set.tokens.valid)
    return np.asarray(activation_set.read(activation_set.sequence_rows()))[valid]


def test_matryoshka_features_have_groups_parents_and_thresholds(
    planted_set: ActivationSet, documents: pa.Table, tmp_path: Path
) -> None:
    dictionary = eye_dictionary("matryoshka_batch_topk", k=2, group_shares=(0.25, 0.25, 0.5))
    dictionary.threshold.fill_(0.5)
    rows = mined_rows(dictionary, planted_set, documents, tmp_path)
    groups = [row["feature_group"] for row in rows]
    assert groups == [0] * 3 + [1] * 3 + [2] * 6
    fires = valid_activations(planted_set) > 0.5
    for feature, row in enumerate(rows):
        together = [
            ((fires[:, feature] & fires[:, other]).sum(), -fires[:, other].sum(), -other)
            for other in range(N_FEATURES)
            if groups[other] < groups[feature] and (fires[:, feature] & fires[:, other]).any()
        ]
        assert row["parent_feature"] == (-max(together)[2] if together else None)
        assert row["threshold"] == pytest.approx(0.5)
    assert sum(row["parent_feature"] is not None for row in rows) >= 7, "the rows compared are not all null"


def test_selection_step_is_the_mean_step_of_matching_pursuit(
    planted_set: ActivationSet, documents: pa.Table, tmp_path: Path
) -> None:
    """With orthogonal directions pursuit takes the activations of a token in falling order."""
    rows = mined_rows(eye_dictionary("matching_pursuit", k=3), planted_set, documents, tmp_path)
    steps: list[list[int]] = [[] for _ in range(N_FEATURES)]
    for activations in valid_activations(planted_set):
        order = [feature for feature in np.argsort(-activations, kind="stable") if activations[feature] > 0]
        for step, feature in enumerate(order[:3]):
            steps[feature].append(step)
    for feature, row in enumerate(rows):
        assert row["n_tokens"] == len(steps[feature])
        expected = pytest.approx(np.mean(steps[feature])) if steps[feature] else None
        assert row["selection_step"] == expected
    assert len({row["selection_step"] for row in rows}) > 6


def test_special_share_is_the_mass_on_special_tokens(
    planted_set: ActivationSet, identity: Callable[[int], Dictionary], documents: pa.Table, tmp_path: Path
) -> None:
    valid = np.asarray(planted_set.tokens.valid)
    token_ids = np.asarray(planted_set.tokens.token_ids)[valid]
    special = np.unique(token_ids)[::5].tolist()
    marked = ActivationSet.open(planted_set.folder)
    marked.meta["special_token_ids"] = special
    rows = mined_rows(identity(N_FEATURES), marked, documents, tmp_path / "marked")
    acts = np.maximum(valid_activations(planted_set), 0)
    for feature, row in enumerate(rows):
        mass = acts[:, feature].sum()
        expected = acts[np.isin(token_ids, special), feature].sum() / mass if mass else None
        assert row["special_share"] == (None if expected is None else pytest.approx(expected, rel=1e-5))
    assert 0 < rows[1]["special_share"] < 1
    plain = mined_rows(identity(N_FEATURES), planted_set, documents, tmp_path / "plain")
    assert {row["special_share"] for row in plain} == {None}, "nobody said which tokens are special"
    assert {row["selection_step"] for row in plain} == {None}


@pytest.mark.parametrize("cells", [40, 16_000_000])
def test_parents_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    monkeypatch.setattr(nearest, "_CELLS_AT_ONCE", cells)
    coactivation = Coactivation(5)
    fires = {0: [0, 1, 2, 3, 4, 5], 1: [0, 1, 2], 2: [0, 1], 3: [3], 4: [9]}
    pairs = sorted((feature, token) for feature, tokens in fires.items() for token in tokens)
    firings = np.array(sorted(pairs))
    coactivation.add(*firings.T, np.ones(len(pairs)))
    # 2 fires with 0 and 1 alike: 1 is the rarer, and so the more specific; 4 fires alone.
    assert coactivation.parents(np.array([0, 1, 2, 2, 2])).tolist() == [-1, 0, 1, 0, -1]


def test_columns_of_the_caller_are_typed_and_kept(
    planted_set: ActivationSet, identity: Callable[[int], Dictionary], documents: pa.Table, tmp_path: Path
) -> None:
    shares = [[0.25, 0.75]] * N_FEATURES
    extra = {"head_shares": shares}
    found = mine(
        identity(N_FEATURES), planted_set, documents, None, CONFIG, tmp_path, extra_columns=extra
    ).features
    assert found["head_shares"].to_pylist() == shares
    assert found["site_norms"].null_count == N_FEATURES
