"""Transcoders: what is read, what is written, what the skip path explains, what it is compared with."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from catalog.errors import UserError
from tasks.dictionaries.base import build_dictionary, dictionary_config
from tasks.dictionaries.config import EvaluationConfig
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.dictionaries.widths import Widths
from tasks.measures.controls import fit_pca, fit_rank_map
from tasks.measures.evaluation import evaluate
from tasks.training.trainer import train

HOOKPOINTS = {"reads": ["blocks.0.mlp_in"], "writes": ["blocks.0.mlp_out"]}
FIELDS = {"d_sae": 48, "n_tokens": 100_000, "batch_tokens": 256, "lr": 4e-3}
LAYERS = {
    "reads": ["blocks.0.mlp_in", "blocks.1.mlp_in"],
    "writes": ["blocks.0.mlp_out", "blocks.1.mlp_out"],
}


class Mapped:
    """The planted activations after a map: the output of an MLP that is known."""

    def __init__(self, planted: Any, values: np.ndarray[Any, Any]) -> None:
        self.d_in, self.context_length, self.tokens = values.shape[2], planted.context_length, planted.tokens
        self.sequence_rows, self.values = planted.sequence_rows, values.astype(np.float32)

    def read(self, rows: Any) -> Any:
        return self.values[rows]


def metric_values(table: Any) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["metric"], row["variant"]): row for row in table.to_pylist()}


def test_the_skip_path_alone_explains_a_linear_mlp(planted: Any, tmp_path: Path) -> None:
    """On inputs without sparse structure, where latents have nothing of their own to add."""
    random = np.random.default_rng(0)
    x_STD = random.standard_normal(planted.values.shape) + 0.5
    y_STE = x_STD @ random.standard_normal((16, 24)) / 4 + 0.3
    activations = HookpointActivations([Mapped(planted, x_STD)], [Mapped(planted, y_STE)])
    config = dictionary_config(
        {"architecture": "skip_transcoder", "k": 2, **FIELDS, **HOOKPOINTS, "n_tokens": 200_000}
    )
    dictionary = train(config, activations, tmp_path, device="cpu", n_threads=1).dictionary
    rows = metric_values(evaluate(dictionary, activations, None, EvaluationConfig()))
    assert rows["skip_share", ""]["value"] > 0.95
    assert rows["fvu", ""]["value"] < 0.001
    x_ND, y_NE = activations.split(
        torch.from_numpy(activations.read(activations.sequence_rows("eval"))[:, 1:]).flatten(0, 1)
    )
    assert dictionary.W_skip is not None
    alone = float((y_NE - x_ND @ dictionary.W_skip).var(dim=0).sum() / y_NE.var(dim=0).sum())
    assert rows["skip_share", ""]["value"] == pytest.approx(1 - alone, abs=1e-4)
    without = {**config.canonical(), "architecture": "topk_transcoder", "skip": False}
    plain = train(
        dictionary_config(without), activations, tmp_path / "plain", device="cpu", n_threads=1
    ).dictionary
    assert metric_values(evaluate(plain, activations, None, EvaluationConfig()))["fvu", ""]["value"] > 0.3


def test_latents_say_what_the_skip_path_leaves_of_the_planted_directions(
    planted_for: Any, tmp_path: Path
) -> None:
    """Of inputs ``sum s a`` and targets ``sum s d`` a linear path W leaves ``sum s (d - a W)`` to latents."""
    planted = planted_for("skip_transcoder")
    fields = {"architecture": "skip_transcoder", "k": 2, **FIELDS, **HOOKPOINTS, "n_tokens": 200_000}
    config = dictionary_config(fields)
    dictionary = train(config, planted.activations, tmp_path, device="cpu", n_threads=1).dictionary
    assert dictionary.W_skip is not None
    carried = planted.read_directions @ dictionary.W_skip.detach().numpy()
    left = torch.from_numpy(planted.directions - carried).float()
    norms = left.norm(dim=1)
    found = (left / norms.unsqueeze(1) @ dictionary.W_dec.detach().T).amax(dim=1)
    assert float(norms.min()) < 0.5, "the path carries much of some directions"
    assert float(found[norms > 0.5].mean()) >= 0.9
    assert float((found * norms).sum() / norms.sum()) >= 0.9


def test_metrics_are_those_of_the_target_beside_the_best_linear_map(planted_for: Any, tmp_path: Path) -> None:
    planted = planted_for("topk_transcoder")
    config = dictionary_config({"architecture": "topk_transcoder", "k": 2, **FIELDS, **HOOKPOINTS})
    dictionary = train(config, planted.activations, tmp_path, device="cpu", n_threads=1).dictionary
    rows = metric_values(evaluate(dictionary, planted.activations, None, EvaluationConfig()))
    x_ND, y_NE = planted.valid("eval")
    error = (y_NE - dictionary(x_ND)).square().sum() / (y_NE - y_NE.mean(dim=0)).square().sum()
    assert rows["fvu", ""]["value"] == pytest.approx(float(error), rel=1e-4)
    control = json.loads(rows["fvu", ""]["control"])
    assert rows["fvu", ""]["value"] < control["linear"] < 1
    assert rows["fvu", ""]["value"] < control["random"] < 1
    assert ("encoder_decoder_cosine", "mean") not in rows
    assert rows["ce_recovered", "mean_ablation"]["note"] == "no language model was given"


def test_the_linear_control_is_the_best_map_of_its_rank(planted_for: Any) -> None:
    x_ND, y_NE = planted_for("topk_transcoder").valid("train", 4000)
    torch.testing.assert_close(
        fit_rank_map(x_ND, x_ND, 3)(x_ND), fit_pca(x_ND, 3)(x_ND), atol=1e-3, rtol=1e-3
    )
    best = fit_rank_map(x_ND, y_NE, 3)
    assert torch.linalg.matrix_rank(best.down @ best.up) == 3
    least = float((best(x_ND) - y_NE).square().sum())
    regression = torch.linalg.lstsq(x_ND - x_ND.mean(0), y_NE - y_NE.mean(0)).solution
    u, s, v = torch.linalg.svd(regression)
    cut = (u[:, :3] * s[:3]) @ v[:3]
    assert least < float(((x_ND - x_ND.mean(0)) @ cut + y_NE.mean(0) - y_NE).square().sum())
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        moved = best.up + 0.05 * torch.randn(best.up.shape, generator=generator)
        predicted = (x_ND - best.mean_in) @ best.down @ moved + best.mean_out
        assert least < float((predicted - y_NE).square().sum())


def test_latents_of_a_layer_never_write_backwards(planted_for: Any, tmp_path: Path) -> None:
    planted = planted_for("cross_layer_transcoder")
    fields = {"architecture": "cross_layer_transcoder", "k": 1, **FIELDS, **LAYERS}
    dictionary = train(dictionary_config(fields), planted.activations, tmp_path, device="cpu").dictionary
    assert dictionary.W_enc.shape == (16, 48)
    assert dictionary.W_dec[24:, :16].abs().max() == 0
    assert (dictionary.W_dec[:24, 16:].norm(dim=1) > 0).all()
    assert dictionary.feature_columns()["feature_group"] == [0] * 24 + [1] * 24
    x_ND, y_NE = planted.valid("eval")
    other_ND = x_ND.clone()
    other_ND[:, 16:] = 0
    assert torch.equal(dictionary.encode(x_ND)[:, :24], dictionary.encode(other_ND)[:, :24])
    rows = metric_values(evaluate(dictionary, planted.activations, None, EvaluationConfig()))
    for place, name in ((slice(0, 16), "2"), (slice(16, 32), "3")):
        target_NE, recon_NE = y_NE[:, place], dictionary(x_ND)[:, place]
        error = (target_NE - recon_NE).square().sum() / (target_NE - target_NE.mean(dim=0)).square().sum()
        found = [row for (metric, variant), row in rows.items() if metric == "fvu" and variant]
        assert any(row["value"] == pytest.approx(float(error), rel=1e-4) for row in found), name
    assert rows["kl", ""]["note"] == "no language model was given"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"architecture": "topk", "k": 2, **HOOKPOINTS}, "leave out writes and models"),
        ({"architecture": "topk", "k": 2, "reads": LAYERS["reads"]}, "topk reads one hookpoint"),
        ({"architecture": "topk_transcoder", "k": 2}, "reads one hookpoint and writes another"),
        (
            {"architecture": "crosscoder", "l1_coefficient": 1, "reads": ["blocks.0.mlp_in"]},
            "two or more reads",
        ),
        (
            {"architecture": "cross_layer_transcoder", "k": 1, **HOOKPOINTS, "writes": LAYERS["writes"]},
            "as many",
        ),
        (
            {"architecture": "crosscoder", "l1_coefficient": 1, "reads": ["module:x", "module:x"]},
            "each only once",
        ),
    ],
)
def test_hookpoints_that_do_not_fit_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dictionary_config({"d_sae": 8, "n_tokens": 1, **fields})


def test_layers_of_unequal_size_are_refused() -> None:
    fields = {"architecture": "cross_layer_transcoder", "k": 1, "n_tokens": 1, **LAYERS}
    with pytest.raises(UserError, match="unequal widths"):
        build_dictionary(dictionary_config({**fields, "d_sae": 8}), Widths((4, 5), (4, 5)))
    with pytest.raises(UserError, match="must be a multiple of 2 layers"):
        build_dictionary(dictionary_config({**fields, "d_sae": 9}), Widths((4, 4), (4, 4)))


def test_thresholds_of_a_transcoder_learn_without_momentum_as_those_of_jumprelu() -> None:
    aim = {"architecture": "jumprelu", "d_sae": 48, "n_tokens": 1, "target_l0": 2.0}
    plain, transcoder = (
        dictionary_config(aim),
        dictionary_config({**aim, **HOOKPOINTS, "architecture": "jumprelu_transcoder"}),
    )
    assert plain.beta1 == transcoder.beta1 == 0.0
