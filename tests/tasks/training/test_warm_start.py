"""A training that starts from a dictionary takes over its weights alone, and needs fewer tokens."""

from pathlib import Path
from typing import Any

import pytest
import torch

from catalog.errors import UserError
from tasks.dictionaries.base import ARCHITECTURES, Dictionary
from tasks.dictionaries.warm_start import start_from
from tasks.dictionaries.weights import load_dictionary, save_dictionary
from tasks.training.trainer import TrainingInterrupted, TrainingRun, train
from tests.tasks.conftest import PlantedActivations
from tests.tasks.training.test_trainer import NAMES, assert_same, make_config, stop_at

LEARNS = [name for name in NAMES if ARCHITECTURES[name].gradient.learns_decoder]
TOKENS = 16_000


class Grown(PlantedActivations):
    """Planted activations of which only the first sequences were there yesterday."""

    def __init__(self, *, yesterday: bool) -> None:
        super().__init__(n_sequences=400)
        if yesterday:
            self.n_sequences = 250
            self.values = self.values[:250]
            self.tokens.valid = self.tokens.valid[:250]


def stored(dictionary: Dictionary, folder: Path) -> Path:
    save_dictionary(dictionary, folder)
    return folder


def trained(config: Any, activations: Any, scratch: Path, **other: Any) -> Dictionary:
    return train(config, activations, scratch, device="cpu", n_threads=1, **other).dictionary


@pytest.mark.parametrize("name", LEARNS)
def test_weights_come_over_in_the_units_of_the_training(name: str, planted_for: Any, tmp_path: Path) -> None:
    """Folded at once, they are those of the parent again; the optimiser and the counts are fresh."""
    planted = planted_for(name).activations
    parent = trained(make_config(name, n_tokens=600), planted, tmp_path / "parent")
    folder = stored(parent, tmp_path / "stored")
    run = TrainingRun(make_config(name, seed=1), planted, torch.device("cpu"), parent=folder)
    run.start()
    assert any(scale != 1 for scale in run.scales)
    assert (run.state.step, run.state.n_tokens, len(run.optimiser.state)) == (0, 0, 0)
    assert not run.state.tokens_since_fired.any()
    run.dictionary.fold_scale(*run.activations.split_vector(run.scale_vector()))
    for key, value in run.dictionary.named_parameters():
        torch.testing.assert_close(value.detach(), dict(parent.named_parameters())[key], rtol=1e-5, atol=1e-6)


def fvu(dictionary: Dictionary, x_ND: torch.Tensor) -> float:
    error = (x_ND - dictionary(x_ND)).square().sum()
    return float(error / (x_ND - x_ND.mean(dim=0)).square().sum())


@pytest.mark.parametrize("name", ["topk", "batch_topk", "jumprelu"])
def test_a_quarter_of_the_tokens_reaches_the_cold_training(name: str, tmp_path: Path) -> None:
    """The parent knows the text of yesterday; the tokens that count are held out of that of today."""
    yesterday, today = Grown(yesterday=True), Grown(yesterday=False)
    held_out = today.valid_tokens("eval")
    parent = trained(make_config(name, n_tokens=2 * TOKENS, seed=3), yesterday, tmp_path / "parent")
    folder = stored(parent, tmp_path / "stored")
    cold, short = (
        fvu(trained(make_config(name, n_tokens=n), today, tmp_path / f"cold {n}"), held_out)
        for n in (TOKENS, TOKENS // 4)
    )
    config = make_config(name, n_tokens=TOKENS // 4)
    warm = fvu(trained(config, today, tmp_path / "warm", parent=folder), held_out)
    assert warm <= cold < short, "a cold training of as few tokens is worse"
    parent.W_dec.copy_(parent.W_dec[torch.randperm(parent.d_sae, generator=torch.Generator().manual_seed(0))])
    shuffled = stored(parent, tmp_path / "shuffled")
    lost = fvu(trained(config, today, tmp_path / "lost", parent=shuffled), held_out)
    assert lost > cold, "it is the directions of the parent that help, not their statistics"


def test_a_stopped_training_goes_on_bit_for_bit_and_not_as_a_cold_one(planted: Any, tmp_path: Path) -> None:
    folder = stored(trained(make_config("topk", n_tokens=600), planted, tmp_path / "parent"), tmp_path / "p")
    config, options = make_config("topk", seed=1), {"device": "cpu", "n_threads": 1}
    unbroken = train(config, planted, tmp_path / "unbroken", parent=folder, **options)
    with pytest.raises(TrainingInterrupted):
        train(config, planted, tmp_path / "warm", parent=folder, should_stop=stop_at(17), **options)
    assert_same(train(config, planted, tmp_path / "warm", parent=folder, **options), unbroken)
    with pytest.raises(TrainingInterrupted):
        train(config, planted, tmp_path / "other", parent=folder, should_stop=stop_at(17), **options)
    with pytest.raises(UserError, match="belongs to another configuration"):
        train(config, planted, tmp_path / "other", **options)


def test_other_parameters_are_refused(planted: Any, tmp_path: Path) -> None:
    folder = stored(trained(make_config("topk", n_tokens=200), planted, tmp_path / "parent"), tmp_path / "p")
    with pytest.raises(UserError, match=r"cannot start from .* which has other parameters"):
        trained(make_config("jumprelu", init_from="p"), planted, tmp_path / "warm", parent=folder)
    loaded = load_dictionary(folder)
    with pytest.raises(UserError, match="other parameters"):
        start_from(ARCHITECTURES["gated"](make_config("gated"), loaded.widths), loaded, *torch.ones(2, 16))
