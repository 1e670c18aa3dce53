"""Whole trainings with matrix products in bfloat16, as on a card, on a processor: the losses stay close."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.dictionaries.base import ARCHITECTURES, dictionary_config
from tasks.training.trainer import TrainedDictionary, train

NAMES = tuple(name for name in ARCHITECTURES.names() if ARCHITECTURES[name].how_trained == "steps")
FORMS: dict[str, dict[str, Any]] = {
    **{name: {"architecture": name, **ARCHITECTURES[name].Config.example} for name in NAMES},
    "orthogonal": {"architecture": "matching_pursuit", "k": 2, "orthogonal": True},
    "tanh": {"architecture": "jumprelu", "tanh_coefficient": 0.03, "bandwidth": 0.1},
}


def values(trained: TrainedDictionary, metric: str) -> list[float]:
    return [row["value"] for row in trained.log.to_pylist() if row["metric"] == metric]


@pytest.mark.parametrize("form", FORMS)
def test_losses_in_bfloat16_are_those_in_float32_within_two_percent(
    form: str, planted_for: Any, tmp_path: Path
) -> None:
    fields = {"d_sae": 48, "n_tokens": 12_000, "batch_tokens": 200, "lr": 3e-3, "dead_after_tokens": 1_000}
    config = dictionary_config({**fields, **FORMS[form]})
    activations = planted_for(config.architecture).activations
    exact = train(config, activations, tmp_path / "exact", device="cpu", n_threads=1)
    half = train(config, activations, tmp_path / "half", device="cpu", n_threads=1, precision="bfloat16")
    (ours, expected), fvu = (values(trained, "loss") for trained in (half, exact)), values(half, "fvu")
    if config.architecture != "matching_pursuit":  # whose steps add up errors: in float32 always
        assert ours != expected, "the products were made in bfloat16"
    assert sum(ours[-15:]) == pytest.approx(sum(expected[-15:]), rel=0.02)
    assert fvu[-1] < (0.8 if half.dictionary.gradient.learns_decoder else 0.9) * fvu[0]
    assert all(value.dtype in (torch.float32, torch.int64) for value in half.dictionary.state_dict().values())
