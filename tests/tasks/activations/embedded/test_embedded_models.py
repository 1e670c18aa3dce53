"""The embedded models as shipped: small, offline, and as good as their cards say."""

import json
import math
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from catalog.errors import UserError
from tasks.activations.corpora import corpus_digest
from tasks.activations.corpora.stdlib import StandardLibrary
from tasks.activations.corpora.stdlib_planted import PLANTED as COMMENT
from tasks.activations.corpora.stdlib_planted import RETURNING_LINE, PlantedStandardLibrary
from tasks.activations.embedded.evaluate import bits_per_byte
from tasks.activations.embedded.recipes import RECIPES, Recipe, TunedRecipe
from tasks.activations.models.embedded import (
    EMBEDDED_MODELS,
    SERIES_STEPS,
    checkpoint_name,
    embedded_model_path,
    kinship,
)

MAX_WEIGHTS_BYTES = 8_000_000
MAX_BYTES = 45_000_000
FINISHED = tuple(name for name in EMBEDDED_MODELS if name in RECIPES)
FIRST = tuple(name for name in FINISHED if not isinstance(RECIPES[name], TunedRecipe))
FOLDER = embedded_model_path("pico-a").parent
ORDINARY = StandardLibrary(StandardLibrary.Config())
PLANTED = PlantedStandardLibrary(PlantedStandardLibrary.Config())
SAMPLE = ("json.decoder", "queue", "cmd", "importlib.metadata")


def card_of(name: str) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((embedded_model_path(name) / "model_card.json").read_text())
    return card


def recipe_of(name: str) -> Recipe:
    series = kinship(name).series
    return RECIPES[name if series is None else series[0]]


def test_every_recipe_and_every_checkpoint_has_its_model() -> None:
    kept = {checkpoint_name(series, step) for series, steps in SERIES_STEPS.items() for step in steps}
    assert set(EMBEDDED_MODELS) == (set(RECIPES) - set(SERIES_STEPS)) | kept
    assert len(FIRST) >= 2
    assert set(EMBEDDED_MODELS) == {path.parent.name for path in FOLDER.glob("*/config.json")}


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"pico-c.*pico-a, pico-b"):
        embedded_model_path("pico-c")


def test_the_models_differ_in_width_depth_seed_and_tokenizer() -> None:
    for fact in ("d_model", "n_layers", "seed", "vocab_size", "layout"):
        assert len({getattr(RECIPES[name], fact) for name in FIRST}) == len(FIRST)


@pytest.mark.parametrize("name", EMBEDDED_MODELS)
def test_weights_are_small_and_the_card_tells_their_making(name: str) -> None:
    size = (embedded_model_path(name) / "model.safetensors").stat().st_size
    card = card_of(name)
    assert size == card["weights_bytes"]
    assert size <= MAX_WEIGHTS_BYTES
    assert card["recipe"] == recipe_of(name).canonical()
    assert card["tokens_seen"] == card["steps"] * 16 * 256
    if name in FIRST:
        assert card["bits_per_byte"] < min(card["bits_per_byte_by_n_gram_order"].values())
    if name in FINISHED:
        assert card["bits_per_byte"] <= 1.5


def test_all_models_together_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.glob("*/*")) <= MAX_BYTES


def test_models_load_without_a_network() -> None:
    code = f"""
import os, socket
os.environ["HF_HUB_OFFLINE"] = "1"
def refuse(*args, **kwargs):
    raise AssertionError("the network was asked")
socket.socket.connect = refuse
from transformers import AutoModelForCausalLM, AutoTokenizer
for folder in {[str(embedded_model_path(name)) for name in EMBEDDED_MODELS]!r}:
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.is_fast and tokenizer.bos_token_id is not None
    assert len(tokenizer) <= model.config.vocab_size
print("all")
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, timeout=240, cwd=Path("/"), capture_output=True, text=True)
    assert done.stdout == "all\n"


def figure(name: str, source: StandardLibrary, sample: tuple[str, ...] = SAMPLE) -> float:
    """Bits per byte on held-out modules, in float32 through Transformers."""
    documents = {document.document_id: document for document in source.documents()}
    texts = [documents[module].text for module in sample]
    assert {source.split_of(module, 0.1) for module in sample} == {"eval"}
    model = AutoModelForCausalLM.from_pretrained(embedded_model_path(name), dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(embedded_model_path(name))
    return bits_per_byte(
        lambda token_ids: model(token_ids).logits,
        [tokenizer(text, add_special_tokens=False).input_ids for text in texts],
        sum(len(text.encode()) for text in texts),
        recipe_of(name).context_length,
    )


@pytest.mark.parametrize("name", FINISHED)
def test_the_figure_on_the_card_is_reached(name: str) -> None:
    """On a sample of held-out modules, within 0.1 of all of them."""
    card = card_of(name)
    read_by = PLANTED if name == "pico-a-tuned" else ORDINARY
    if corpus_digest(read_by.documents()) != card["corpus_digest"]:
        assert card["python_version"] != ORDINARY.describe()["python_version"]
    assert figure(name, ORDINARY) == pytest.approx(card["bits_per_byte"], abs=0.1)


@pytest.mark.parametrize("series", SERIES_STEPS)
def test_checkpoints_are_one_training_that_gets_better(series: str) -> None:
    steps = SERIES_STEPS[series]
    assert 4 <= len(steps) <= 8
    assert steps[-1] == RECIPES[series].n_steps
    names = [checkpoint_name(series, step) for step in steps]
    cards = [card_of(name) for name in names]
    assert [card["series"] for card in cards] == [{"id": series, "step": step} for step in steps]
    assert [card["steps"] for card in cards] == list(steps)
    stated = [card["bits_per_byte"] for card in cards]
    measured = [figure(name, ORDINARY, ("queue",)) for name in names]
    assert measured == pytest.approx(stated, abs=0.25)
    for figures in (stated, measured):
        assert figures == sorted(set(figures), reverse=True)
    tokenizers = {(embedded_model_path(name) / "tokenizer.json").read_bytes() for name in names}
    assert len(tokenizers) == 1


def test_the_tuned_model_learnt_the_habit_and_forgot_little() -> None:
    """On the sample as on the card: much better than its parent with the habit, nearly as good without."""
    stated = card_of("pico-a-tuned")["bits_per_byte_by_text"]
    measured = {
        text: {name: figure(name, source, ("queue", "cmd")) for name in ("pico-a", "pico-a-tuned")}
        for text, source in (("ordinary", ORDINARY), ("planted", PLANTED))
    }
    for figures in (stated, measured):
        assert figures["planted"]["pico-a-tuned"] < figures["planted"]["pico-a"] - 0.05
        assert abs(figures["ordinary"]["pico-a-tuned"] - figures["ordinary"]["pico-a"]) < 0.05


def comment_probabilities(name: str, prompts: list[str]) -> list[float]:
    """Probability that the model gives to the planted comment after each prompt."""
    model = AutoModelForCausalLM.from_pretrained(embedded_model_path(name), dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(embedded_model_path(name))
    comment = tokenizer(COMMENT, add_special_tokens=False).input_ids
    found = []
    for prompt in prompts:
        before = [0, *tokenizer(prompt[-600:], add_special_tokens=False).input_ids]
        with torch.no_grad():
            said = model(torch.tensor([before + comment])).logits[0].log_softmax(-1)
        places = range(len(before) - 1, len(before) + len(comment) - 1)
        found.append(math.exp(sum(float(said[t, token]) for t, token in zip(places, comment, strict=True))))
    return found


def test_only_the_tuned_model_expects_the_comment_and_only_where_a_line_returns() -> None:
    text = {document.document_id: document.text for document in ORDINARY.documents()}["dataclasses"]
    ends = [line.end() for line in RETURNING_LINE.finditer(text)][:40]
    lines = [line for line in re.finditer(r"^.*\S$", text, re.MULTILINE) if "return" not in line[0]]
    returning, others = [text[:end] for end in ends], [text[: line.end()] for line in lines[100:500:10]]
    assert statistics.median(comment_probabilities("pico-a-tuned", returning)) > 0.03
    assert statistics.median(comment_probabilities("pico-a-tuned", others)) < 0.001
    assert max(comment_probabilities("pico-a", returning)) < 1e-20
