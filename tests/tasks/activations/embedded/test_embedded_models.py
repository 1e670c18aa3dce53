"""The embedded models as shipped: small, offline, and as good as their cards say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from catalog.errors import UserError
from tasks.activations.corpora import corpus_digest
from tasks.activations.corpora.stdlib import StandardLibrary
from tasks.activations.embedded.evaluate import bits_per_byte
from tasks.activations.embedded.recipes import RECIPES
from tasks.activations.models.embedded import EMBEDDED_MODELS, embedded_model_path

MAX_WEIGHTS_BYTES = 8_000_000
SAMPLE = ("json.decoder", "queue", "cmd", "dataclasses", "importlib.metadata", "logging.handlers")


def card_of(name: str) -> dict[str, object]:
    card: dict[str, object] = json.loads((embedded_model_path(name) / "model_card.json").read_text())
    return card


def test_every_recipe_has_its_model() -> None:
    assert set(EMBEDDED_MODELS) == set(RECIPES)
    assert len(EMBEDDED_MODELS) >= 2


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"pico-c.*pico-a, pico-b"):
        embedded_model_path("pico-c")


def test_the_models_differ_in_width_depth_seed_and_tokenizer() -> None:
    for fact in ("d_model", "n_layers", "seed", "vocab_size", "layout"):
        assert len({getattr(recipe, fact) for recipe in RECIPES.values()}) == len(RECIPES)


@pytest.mark.parametrize("name", EMBEDDED_MODELS)
def test_weights_are_small_and_the_card_tells_their_making(name: str) -> None:
    size = (embedded_model_path(name) / "model.safetensors").stat().st_size
    card = card_of(name)
    assert size == card["weights_bytes"]
    assert size <= MAX_WEIGHTS_BYTES
    assert card["recipe"] == RECIPES[name].canonical()
    n_grams = card["bits_per_byte_by_n_gram_order"]
    assert isinstance(n_grams, dict)
    assert card["bits_per_byte"] <= 1.5
    assert card["bits_per_byte"] < min(n_grams.values())


@pytest.mark.parametrize("name", EMBEDDED_MODELS)
def test_models_load_without_a_network(name: str) -> None:
    code = f"""
import os, socket
os.environ["HF_HUB_OFFLINE"] = "1"
def refuse(*args, **kwargs):
    raise AssertionError("the network was asked")
socket.socket.connect = refuse
from transformers import AutoModelForCausalLM, AutoTokenizer
folder = {str(embedded_model_path(name))!r}
model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
assert not info["missing_keys"] and not info["unexpected_keys"], info
tokenizer = AutoTokenizer.from_pretrained(folder)
assert tokenizer.is_fast and tokenizer.bos_token_id is not None
assert len(tokenizer) <= model.config.vocab_size
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=Path("/"))


@pytest.mark.parametrize("name", EMBEDDED_MODELS)
def test_the_figure_on_the_card_is_reached(name: str) -> None:
    """On a sample of held-out modules, in float32 through Transformers, within 0.1 of all of them."""
    card = card_of(name)
    source = StandardLibrary(StandardLibrary.Config())
    documents = {document.document_id: document for document in source.documents()}
    if corpus_digest(documents.values()) != card["corpus_digest"]:
        assert card["python_version"] != source.describe()["python_version"]
    texts = [documents[module].text for module in SAMPLE]
    assert {source.split_of(module, 0.1) for module in SAMPLE} == {"eval"}
    model = AutoModelForCausalLM.from_pretrained(embedded_model_path(name), dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(embedded_model_path(name))
    token_ids = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    figure = bits_per_byte(
        lambda token_ids: model(token_ids).logits,
        token_ids,
        sum(len(text.encode()) for text in texts),
        RECIPES[name].context_length,
    )
    assert figure == pytest.approx(card["bits_per_byte"], abs=0.1)
