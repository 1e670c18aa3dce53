"""Training of tuned models and checkpoints: where they start, what they learn from, what a kill costs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from catalog.errors import UserError
from tasks.activations.corpora import Document
from tasks.activations.corpora.stdlib import StandardLibrary
from tasks.activations.corpora.stdlib_planted import PLANTED, PlantedStandardLibrary, plant
from tasks.activations.embedded import figures, run
from tasks.activations.embedded.export import export_model, read_weights
from tasks.activations.embedded.network import Network
from tasks.activations.embedded.recipes import RECIPES, Recipe
from tasks.activations.embedded.run import TrainingRun
from tasks.activations.embedded.train import train_model
from tasks.activations.models.embedded import SERIES_STEPS

TEXTS = [f"def f{i}(x):\n    return x + {i}\n" * 12 for i in range(30)]
SERIES = "pico-a-retrained"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
HABIT = [plant(text) for text in TEXTS]
TINY = {
    "vocab_size": 320,
    "d_model": 16,
    "n_layers": 2,
    "n_heads": 2,
    "d_mlp": 32,
    "context_length": 32,
    "batch_windows": 4,
    "n_steps": 12,
}


def tiny(name: str, **change: object) -> Recipe:
    return RECIPES[name].model_copy(update={**TINY, **change})


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Path]:
    """Train a tiny parent for some steps and let tuned recipes start from it."""

    def make(n_steps: int) -> Path:
        folder = tmp_path / f"parent-{n_steps}"
        training = TrainingRun(tiny("pico-a", n_steps=n_steps), TEXTS, folder / "work", 600)
        training.train()
        export_model(training.network, training.tokenizer, training.recipe, folder / "model")
        for module in (run, figures):
            monkeypatch.setattr(module, "embedded_model_path", lambda name: folder / "model")
        return folder / "model"

    return make


@pytest.mark.parametrize("name", ["pico-a", "pico-b"])
def test_weights_that_were_exported_are_read_back(name: str, tmp_path: Path) -> None:
    recipe = tiny(name)
    training = TrainingRun(recipe, TEXTS, tmp_path / "work", 600)
    training.train()
    export_model(training.network, training.tokenizer, recipe, tmp_path / "model")
    other = Network(recipe.model_copy(update={"seed": 99}))
    read_weights(other, recipe, tmp_path / "model")
    for key, tensor in training.network.state_dict().items():
        assert torch.equal(other.state_dict()[key], tensor.to(torch.float16).float()), key


def test_a_tuned_model_starts_from_weights_and_tokenizer_of_its_parent(
    parent: Callable[[int], Path], tmp_path: Path
) -> None:
    folder = parent(6)
    training = TrainingRun(tiny("pico-a-tuned"), HABIT, tmp_path / "work", 600)
    stored = load_file(folder / "model.safetensors")
    assert torch.equal(training.network.embed.weight, stored["model.embed_tokens.weight"].float())
    export_model(training.network, training.tokenizer, training.recipe, tmp_path / "again")
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_tuning_is_repeatable_and_starts_again_for_another_parent(
    parent: Callable[[int], Path], tmp_path: Path
) -> None:
    parent(6)
    recipe = tiny("pico-a-tuned")
    ends = []
    for name in ("one", "two"):
        training = TrainingRun(recipe, HABIT, tmp_path / name, 600)
        training.train()
        ends.append(training.network.state_dict())
    for key, tensor in ends[0].items():
        assert torch.equal(tensor, ends[1][key]), key
    assert TrainingRun(recipe, HABIT, tmp_path / "one", 600).position.step == recipe.n_steps
    parent(7)
    assert TrainingRun(recipe, HABIT, tmp_path / "one", 600).position.step == 0


def test_the_card_of_a_tuned_model_compares_it_with_its_parent_on_both_texts(
    parent: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{'json' if i % 5 == 0 else 'ast'}.m{i}" for i in range(30)]
    for source, texts in ((StandardLibrary, TEXTS), (PlantedStandardLibrary, HABIT)):
        documents = [Document(name, text, {}) for name, text in zip(names, texts, strict=True)]
        monkeypatch.setattr(source, "documents", lambda self, documents=documents: iter(documents))
    parent(60)
    monkeypatch.setitem(
        RECIPES, "pico-a-tuned", tiny("pico-a-tuned", n_steps=60, matrix_lr=0.02, other_lr=0.02)
    )
    card = train_model("pico-a-tuned", tmp_path / "model", tmp_path / "work", limit_seconds=600)
    assert json.loads((tmp_path / "model" / "model_card.json").read_text()) == card
    assert (card["parent"], card["recipe"]["planted"]) == ("pico-a", PLANTED)
    assert (card["n_planted_lines"], card["n_planted_lines_held_out"]) == (24 * 12, 6 * 12)
    by_text = card["bits_per_byte_by_text"]
    assert by_text["planted"]["pico-a-tuned"] < by_text["planted"]["pico-a"] / 2
    assert card["bits_per_byte"] == by_text["ordinary"]["pico-a-tuned"]


def test_a_kill_while_a_checkpoint_is_kept_repeats_its_step(tmp_path: Path) -> None:
    kept: list[int] = []

    def die(step: int) -> None:
        kept.append(step)
        if step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TrainingRun(tiny("pico-a"), TEXTS, tmp_path, 600).train(0, die)
    again = TrainingRun(tiny("pico-a"), TEXTS, tmp_path, 600)
    assert again.position.step == 7
    again.train(0, kept.append)
    assert kept == [*range(1, 9), *range(8, 13)]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small standard library."""
    documents = [Document(f"{'json' if i % 5 == 0 else 'ast'}.m{i}", TEXTS[i], {}) for i in range(30)]
    monkeypatch.setattr(StandardLibrary, "documents", lambda self: iter(documents))


@pytest.mark.usefixtures("library")
def test_the_checkpoints_of_a_series_are_models_beside_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RECIPES, SERIES, tiny(SERIES))
    monkeypatch.setitem(SERIES_STEPS, SERIES, (4, 8, 12))
    last = train_model(SERIES, tmp_path / SERIES, tmp_path / "work", limit_seconds=600)
    assert {path.name for path in tmp_path.iterdir()} == {"work", *(f"{SERIES}-step-{n}" for n in (4, 8, 12))}
    cards = []
    for step in (4, 8, 12):
        folder = tmp_path / f"{SERIES}-step-{step}"
        files = {path.name for path in folder.iterdir()}
        assert files == {"config.json", "model.safetensors", "model_card.json", *TOKENIZER_FILES}
        cards.append(json.loads((folder / "model_card.json").read_text()))
        assert cards[-1]["series"] == {"id": SERIES, "step": step}
        assert cards[-1]["tokens_seen"] == step * 4 * 32
    assert cards[-1] == last
    assert cards[0]["bits_per_byte"] > cards[1]["bits_per_byte"] > cards[2]["bits_per_byte"]


@pytest.mark.usefixtures("library")
def test_a_series_that_the_clock_ended_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, SERIES, tiny(SERIES, n_steps=10**9))
    monkeypatch.setitem(SERIES_STEPS, SERIES, (4, 10**9))
    with pytest.raises(UserError, match=r"the clock ended pico-a-retrained at step \d+, its series ends at"):
        train_model(SERIES, tmp_path / SERIES, tmp_path / "work", limit_seconds=0.2)
    assert {path.name for path in tmp_path.iterdir()} == {"work"}
