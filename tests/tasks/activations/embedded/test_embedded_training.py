"""Training of the embedded models: exact resume after a kill, honest figures, a faithful export."""

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasks.activations.corpora import Document, corpus_digest
from tasks.activations.corpora.stdlib import StandardLibrary
from tasks.activations.embedded.baselines import n_gram_bits_per_byte
from tasks.activations.embedded.evaluate import bits_per_byte, windows
from tasks.activations.embedded.export import export_model
from tasks.activations.embedded.network import Network
from tasks.activations.embedded.recipes import RECIPES, Recipe
from tasks.activations.embedded.run import TrainingRun, schedule
from tasks.activations.embedded.text import BOS_ID, batch_at, token_stream, train_tokenizer
from tasks.activations.embedded.train import train_model

FIRST = ("pico-a", "pico-b")
TEXTS = [f"def f{i}(x):\n    return x + {i}  # é🙂\n" * 12 for i in range(30)]


def tiny(name: str = "pico-a", **change: object) -> Recipe:
    shape = {
        "vocab_size": 320,
        "d_model": 16,
        "n_layers": 2,
        "n_heads": 2,
        "d_mlp": 32,
        "context_length": 32,
        "batch_windows": 4,
        "n_steps": 12,
        "dropout": 0.1,
    }
    return RECIPES[name].model_copy(update={**shape, **change})


FILES = {"config.json", "model.safetensors", "model_card.json", "tokenizer.json", "tokenizer_config.json"}


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def weights(work_folder: Path) -> dict[str, torch.Tensor]:
    return load_file(work_folder / "checkpoint" / "state.safetensors")


@pytest.mark.parametrize("name", FIRST)
def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(name: str, tmp_path: Path) -> None:
    recipe = tiny(name)
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    TrainingRun(recipe, TEXTS, unbroken, 600).train()
    code = f"""
import os, signal
from pathlib import Path
from tasks.activations.embedded.recipes import Recipe
from tasks.activations.embedded.run import TrainingRun
import torch
torch.set_num_threads({torch.get_num_threads()})
recipe = Recipe.model_validate_json({recipe.model_dump_json()!r})
run = TrainingRun(recipe, {TEXTS!r}, Path({str(killed)!r}), 600)
step = run.step
def step_or_die():
    if run.position.step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return step()
run.step = step_or_die
run.train(checkpoint_seconds=0)
"""
    process = subprocess.run([sys.executable, "-c", code], timeout=120, check=False)
    assert process.returncode == -signal.SIGKILL
    resumed = TrainingRun(recipe, TEXTS, killed, 600)
    assert resumed.position.step == 7
    resumed.train()
    assert resumed.position.step == recipe.n_steps
    want, have = weights(unbroken), weights(killed)
    assert want.keys() == have.keys()
    assert any(name.startswith("optimizer.0.") for name in want)
    for key, tensor in want.items():
        assert torch.equal(tensor, have[key]), key


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    TrainingRun(tiny(n_steps=3), TEXTS, tmp_path, 600).train()
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    assert TrainingRun(tiny(n_steps=3), TEXTS, tmp_path, 600).position.step == 3


def test_a_half_written_checkpoint_is_passed_over(tmp_path: Path) -> None:
    TrainingRun(tiny(n_steps=3), TEXTS, tmp_path, 600).train()
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    (tmp_path / "checkpoint.new").mkdir()
    (tmp_path / "checkpoint.new" / "state.safetensors").write_bytes(b"\0" * 10)
    assert TrainingRun(tiny(n_steps=3), TEXTS, tmp_path, 600).position.step == 3


def test_another_recipe_or_corpus_starts_afresh(tmp_path: Path) -> None:
    TrainingRun(tiny(n_steps=3), TEXTS, tmp_path, 600).train()
    assert TrainingRun(tiny(n_steps=4), TEXTS, tmp_path, 600).position.step == 0
    assert TrainingRun(tiny(n_steps=3), TEXTS[1:], tmp_path, 600).position.step == 0


def test_a_run_ends_when_its_time_is_over(tmp_path: Path) -> None:
    run = TrainingRun(tiny(n_steps=10**9), TEXTS, tmp_path, limit_seconds=0.5)
    run.train()
    assert 0.5 <= run.position.seconds < 5


def test_the_learning_rate_goes_up_and_down_to_nothing() -> None:
    recipe = tiny()
    factors = [schedule(step / 1000, recipe) for step in range(1001)]
    assert factors[0] < 0.02
    assert max(factors) == 1.0
    assert factors[-1] == pytest.approx(0.01)
    after = factors[factors.index(1.0) :]
    assert after == sorted(after, reverse=True)


@pytest.mark.parametrize("name", FIRST)
def test_transformers_computes_what_was_trained(name: str, tmp_path: Path) -> None:
    recipe = tiny(name)
    run = TrainingRun(recipe, TEXTS, tmp_path / "work", 600)
    run.train()
    export_model(run.network, run.tokenizer, recipe, tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    network = run.network.eval()
    for parameter in network.parameters():
        parameter.data = parameter.data.to(torch.float16).float()
    token_ids = torch.randint(recipe.vocab_size, (3, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(token_ids).logits, network(token_ids), atol=1e-4, rtol=1e-4)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.bos_token_id == BOS_ID
    assert tokenizer(TEXTS[3]).input_ids == run.tokenizer.encode(TEXTS[3]).ids


def test_the_script_leaves_a_model_and_its_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [Document(f"{'json' if i % 5 == 0 else 'ast'}.m{i}", TEXTS[i], {}) for i in range(30)]
    monkeypatch.setattr(StandardLibrary, "documents", lambda self: iter(documents))
    monkeypatch.setitem(RECIPES, "pico-a", tiny())
    card = train_model("pico-a", tmp_path / "model", tmp_path / "work", limit_seconds=600)
    assert files(tmp_path / "model") == FILES
    assert json.loads((tmp_path / "model" / "model_card.json").read_text()) == card
    assert card["held_out_documents"] == 6
    assert card["held_out_bytes"] == sum(len(TEXTS[i].encode()) for i in range(0, 30, 5))
    assert card["tokens_seen"] == 12 * 4 * 32
    assert card["corpus_digest"] == corpus_digest(documents)
    assert 0 < card["bits_per_byte"] < 10
    again = train_model("pico-a", tmp_path / "model", tmp_path / "work", limit_seconds=600)
    assert again["bits_per_byte"] == card["bits_per_byte"]


@pytest.mark.parametrize("name", FIRST)
def test_tokenizers_give_every_text_back(name: str) -> None:
    tokenizer: Tokenizer = train_tokenizer(tiny(name), TEXTS)
    for text in ("", "\t\tx\r\n\r\n   y ", "mäßig 🙂 שלום \u200b</b> \x00", TEXTS[0]):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.get_vocab_size() <= 320


def test_an_epoch_shows_every_window_once() -> None:
    recipe = tiny()
    stream = torch.arange(1, 1 + 32 * 41)
    steps = ((len(stream) - 32) // 32) // recipe.batch_windows
    seen = torch.cat([batch_at(stream, recipe, step)[1] for step in range(steps)]).flatten()
    assert len(seen.unique()) == len(seen)
    again = torch.cat([batch_at(stream, recipe, steps + step)[1] for step in range(steps)]).flatten()
    assert not torch.equal(seen, again)


def test_windows_start_with_bos_and_never_ask_for_it() -> None:
    recipe = tiny()
    tokenizer = train_tokenizer(recipe, TEXTS)
    inputs, targets = batch_at(token_stream(tokenizer, TEXTS), recipe, step=5)
    assert bool((inputs[:, 0] == BOS_ID).all())
    assert bool((targets != BOS_ID).all())
    known = targets[:, :-1] != -100
    assert torch.equal(inputs[:, 1:][known], targets[:, :-1][known])


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 31, 32, 33, 100])
def test_every_token_is_scored_once_with_the_context_before_it(length: int) -> None:
    document = list(range(1, length + 1))
    inputs, targets = windows([document], context_length=32)
    assert targets[targets != -100].tolist() == document
    for row_inputs, row_targets in zip(inputs.tolist(), targets.tolist(), strict=True):
        for place, target in enumerate(row_targets):
            if target != -100:
                assert row_inputs[place] in (target - 1, BOS_ID)
                assert place >= min(target - 1, 16)


def test_bits_per_byte_of_a_uniform_model_is_known() -> None:
    documents = [list(range(1, 50)), [3] * 7]
    figure = bits_per_byte(lambda ids: torch.zeros(*ids.shape, 64), documents, 100, 32)
    assert figure == pytest.approx((49 + 7) * math.log2(64) / 100)


def test_n_grams_of_higher_order_learn_more_of_a_rule() -> None:
    train, held_out = [[1, 2, 3, 1, 3, 2] * 50], [[1, 2, 3, 1, 3, 2] * 5]
    figures = n_gram_bits_per_byte(train, held_out, n_bytes=30, vocab_size=8, max_order=3)
    assert figures["1"] == pytest.approx(math.log2(3), abs=0.02)
    assert figures["2"] == pytest.approx(1.0, abs=0.1)
    assert figures["3"] < 0.1


def test_the_network_is_causal() -> None:
    network = Network(tiny("pico-b")).eval()
    one = torch.randint(1, 300, (1, 20), generator=torch.Generator().manual_seed(1))
    other = one.clone()
    other[0, 12:] = 5
    assert torch.equal(network(one)[0, :12], network(other)[0, :12])
