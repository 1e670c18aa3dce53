"""The first layer from which a probe predicts a feature: planted layers, shuffled firing, and the null."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.evaluation.suite import Layer, Subject, run_suite
from tasks.evaluation.suites.layer_decodability import LayerDecodabilityConfig
from tasks.measures.linear_probes import ProbeSums, aurocs

N_SEQUENCES, CONTEXT, WIDTH = 200, 16, 6
LINEAR, PRODUCT, LATE = 0, 1, 2
"""Features: a direction of layer 0, a product of two of its directions, and noise that layer 2 adds."""


class Plane:
    """A hookpoint with given values, one document per sequence."""

    def __init__(self, hookpoint: str, values: np.ndarray) -> None:
        self.hookpoint, self.values = hookpoint, values.astype(np.float32)
        self.d_in, self.context_length, self.n_sequences = values.shape[2], CONTEXT, len(values)
        document = np.broadcast_to(np.arange(len(values))[:, None], values.shape[:2])
        self.tokens = SimpleNamespace(valid=np.ones(values.shape[:2], bool), document_index=document)

    def sequence_rows(self, split: str) -> Any:
        n_train = self.n_sequences * 3 // 4
        return np.arange(n_train) if split == "train" else np.arange(n_train, self.n_sequences)

    def read(self, rows: Any) -> Any:
        return self.values[rows]


@pytest.fixture
def layers() -> list[Plane]:
    """Layer 0: a stream. Layer 1: it, and the product of two of its numbers. Layer 2: further noise."""
    random = np.random.default_rng(3)
    stream = random.standard_normal((N_SEQUENCES, CONTEXT, WIDTH))
    product = stream[..., 1:2] * stream[..., 2:3]
    late = random.standard_normal((N_SEQUENCES, CONTEXT, 1))
    nothing = np.zeros_like(late)
    values = ([nothing, nothing], [product, nothing], [product, late])
    return [
        Plane(f"blocks.{number}.resid_post", np.concatenate([stream, *further], axis=2))
        for number, further in enumerate(values)
    ]


@pytest.fixture
def planted(layers: list[Plane], make_dictionary: Callable[..., Dictionary], tmp_path: Path) -> Subject:
    """A dictionary on layer 2 whose latents read direction 0, the product, and the noise of layer 2."""
    directions = np.eye(WIDTH + 2)[[0, WIDTH, WIDTH + 1]]
    dictionary = make_dictionary(directions, 3)
    dictionary.b_enc[:] = -1.0
    named = [Layer(plane.hookpoint, plane) for plane in layers]
    return Subject(dictionary, HookpointActivations.of(layers[2]), tmp_path, layers=named)


def found(subject: Subject, **fields: Any) -> tuple[dict[tuple[int, int], dict[str, Any]], dict[str, Any]]:
    measured = run_suite(subject, LayerDecodabilityConfig(**fields))
    metrics = {row["variant"]: row for row in measured.metrics.to_pylist()}
    rows = measured.features.to_pylist() if measured.features is not None else []
    return {(row["feature_index"], row["depth"]): row for row in rows}, metrics


def test_a_feature_is_decodable_from_the_layer_that_holds_it_in_linear_form(planted: Subject) -> None:
    rows, metrics = found(planted)
    firsts = {feature: depth for (feature, depth), row in rows.items() if row["is_first"]}
    assert firsts == {LINEAR: 0, PRODUCT: 1, LATE: 2}
    assert rows[LINEAR, 0]["auroc"] > 0.99
    assert rows[PRODUCT, 0]["auroc"] < 0.65, "layer 0 has both factors, but no probe multiplies"
    assert rows[LATE, 1]["auroc"] < 0.65
    assert all(0.3 < row["null_auroc"] <= row["null_high"] < 0.7 for row in rows.values())
    assert [row["is_own"] for row in rows.values()] == 3 * [False, False, True]
    assert metrics[""]["value"] == pytest.approx(2 / 3)
    assert metrics["blocks.0.resid_post"]["value"] == pytest.approx(1 / 3)
    assert json.loads(metrics[""]["control"]) == {"shuffled_firing": 0.0}


def test_shuffled_layers_hold_nothing(planted: Subject, layers: list[Plane]) -> None:
    """The layers of other tokens: no probe finds the firing in them."""
    order = np.random.default_rng(0).permutation(N_SEQUENCES * CONTEXT)
    for plane in layers[:2]:
        shape = plane.values.shape
        plane.values = plane.values.reshape(-1, shape[2])[order].reshape(shape)
    rows, metrics = found(planted)
    assert not any(row["is_decodable"] for (_, depth), row in rows.items() if depth < 2)
    assert metrics[""]["value"] == 0


def test_chance_above_the_threshold_does_not_pass_the_null(planted: Subject, layers: list[Plane]) -> None:
    """Few tokens and a low threshold: a probe of noise may pass it, but not above all shuffles."""
    layers[0].values = np.random.default_rng(1).standard_normal(layers[0].values.shape).astype(np.float32)
    rows, _ = found(planted, threshold=0.501, n_shuffles=20, max_tokens=400, min_firing=4)
    assert not any(row["is_decodable"] for (_, depth), row in rows.items() if depth == 0)


def test_features_are_bounded_and_drawn_again_alike(planted: Subject) -> None:
    rows, _ = found(planted, max_features=2)
    assert len({feature for feature, _ in rows}) == 2
    assert rows == found(planted, max_features=2)[0]


@pytest.mark.parametrize(
    ("fields", "n_layers", "why"),
    [({}, 1, "fewer than two hookpoints"), ({"min_firing": 10**6}, 3, "no feature fires on 1000000")],
)
def test_what_cannot_be_measured_is_null_with_the_reason(
    planted: Subject, fields: Any, n_layers: int, why: str
) -> None:
    rows, metrics = found(replace(planted, layers=planted.layers[:n_layers]), **fields)
    assert rows == {}
    assert metrics[""]["value"] is None
    assert why in metrics[""]["note"]


def test_auroc_by_hand() -> None:
    """Positives 3, 1 and negatives 2, 1: of four pairs two are won and one is a tie."""
    scores = np.array([[3.0], [1.0], [2.0], [1.0]])
    assert aurocs(scores, np.array([[True], [True], [False], [False]]))[0] == 2.5 / 4
    assert np.isnan(aurocs(scores, np.ones((4, 1), bool))[0])


def test_the_direction_is_that_of_least_squares() -> None:
    """Sums over batches give the weights of a direct fit, and a constant feature gives nothing."""
    random = np.random.default_rng(0)
    x = np.concatenate([random.standard_normal((500, 3)) * [1, 5, 0.2] + 2, np.full((500, 1), 7.0)], axis=1)
    y = (x[:, :1] - 4 * x[:, 2:3] + random.standard_normal((500, 1)) > 0).astype(float)
    sums = ProbeSums()
    for part in (slice(0, 123), slice(123, None)):
        sums.add(x[part], y[part])
    centred = x[:, :3] - x[:, :3].mean(axis=0)
    direct = np.linalg.lstsq(centred, y - y.mean(), rcond=None)[0][:, 0]
    weights = sums.weights()[:, 0]
    assert weights[:3] == pytest.approx(direct, rel=0.01)
    assert weights[3] == 0
