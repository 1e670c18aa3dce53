"""What is known of a model without running it, and what it gives when it runs."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from catalog.errors import UserError
from tasks.activations.models.language_model import (
    LanguageModel,
    ModelConfig,
    load_language_model,
    read_model_spec,
)
from tasks.activations.reading.capture import capture

Loader = Callable[[str], LanguageModel]
Builder = Callable[..., Path]
CAUSAL = ("llama", "mistral", "qwen2", "gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neox")
INPUTS = {"input_ids": torch.arange(20, 44).reshape(2, 12)}


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma2", "bert", "roberta", "distilbert"])
def test_description_agrees_with_the_loaded_model(
    model_config: Callable[[str], ModelConfig], language_model: Loader, family: str
) -> None:
    spec, loaded = read_model_spec(model_config(family)), language_model(family)
    assert spec == loaded.spec
    assert (spec.n_layers, spec.d_model) == (3, 32)
    assert spec.vocab_size == loaded.model.get_input_embeddings().num_embeddings
    assert spec.n_parameters == sum(p.numel() for p in loaded.model.parameters())
    assert spec.is_causal == (family not in ("bert", "roberta", "distilbert"))
    assert spec.max_context == (63 if family == "roberta" else 64)  # positions begin after the padding's
    assert not loaded.model.training
    assert not any(p.requires_grad for p in loaded.model.parameters())


@pytest.mark.parametrize("family", CAUSAL)
def test_unembedding_gives_the_models_logits(language_model: Loader, family: str) -> None:
    """logits = W_U · (gain ⊙ normed stream), up to a norm's bias and a final soft cap."""
    model = language_model(family)
    W_U, gain = model.unembedding()
    assert W_U is not None
    assert gain is not None
    assert W_U.shape == (32, model.spec.vocab_size)
    stream = capture(model, ["blocks.2.resid_post"], INPUTS)["blocks.2.resid_post"]
    norm = model.model.base_model.get_submodule(model.layout.final_norm)  # type: ignore[union-attr, arg-type]
    if isinstance(norm, torch.nn.LayerNorm):
        centred = stream - stream.mean(-1, keepdim=True)
        normed = centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() * gain + norm.bias
    else:
        normed = stream / (stream.square().mean(-1, keepdim=True) + 1e-6).sqrt() * gain
    with torch.no_grad():
        logits = model.model(**INPUTS).logits
    expected = normed @ W_U
    cap = getattr(model.model.config, "final_logit_softcapping", None)
    if cap is not None:
        expected = torch.tanh(expected / cap) * cap
    torch.testing.assert_close(expected, logits, atol=1e-3, rtol=1e-3)


def test_encoders_have_no_linear_unembedding(language_model: Loader) -> None:
    assert language_model("bert").unembedding() == (None, None)


def test_token_texts_are_readable(language_model: Loader) -> None:
    model = language_model("llama")
    token_ids = model.tokenizer("The storm é", add_special_tokens=False)["input_ids"]
    texts = model.token_texts(token_ids)
    assert texts[0].startswith("T")
    assert any(text.startswith(" ") for text in texts)
    assert model.token_texts([0, 1]) == ["<pad>", "<s>"]
    assert all("\ufffd" not in text and text for text in texts)
    assert model.token_texts([99_999]) == ["[99999]"]


def test_missing_weights_are_refused(model_builder: Builder, tmp_path: Path) -> None:
    folder = model_builder("llama", tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 weights, the first is model\.layers\.1\.mlp\.up_proj"):
        load_language_model(ModelConfig(id="m", source="local", path=str(folder)))


def test_weights_of_another_shape_are_refused(model_builder: Builder, tmp_path: Path) -> None:
    folder = model_builder("llama", tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = torch.ones(31)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="cannot be loaded"):
        load_language_model(ModelConfig(id="m", source="local", path=str(folder)))


def test_encoder_without_head_can_be_read_but_not_scored(model_builder: Builder, tmp_path: Path) -> None:
    folder = model_builder("bert", tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    backbone = {name: value for name, value in weights.items() if not name.startswith("cls.")}
    save_file(backbone, folder / "model.safetensors", {"format": "pt"})
    model = load_language_model(ModelConfig(id="m", source="local", path=str(folder)))
    assert not model.has_head
    assert capture(model, ["blocks.1.resid_post"], INPUTS)["blocks.1.resid_post"].shape == (2, 12, 32)


def test_number_format_is_the_configured_one(model_builder: Builder, tmp_path: Path) -> None:
    folder = model_builder("llama", tmp_path / "m")
    config = ModelConfig(id="m", source="local", path=str(folder), dtype="bfloat16")
    model = load_language_model(config)
    assert model.model.dtype == torch.bfloat16
    W_U, _ = model.unembedding()
    assert W_U is not None
    assert W_U.dtype == torch.float32


def test_embedded_models_load() -> None:
    spec = read_model_spec(ModelConfig(id="pico-a", source="embedded"))
    assert spec.source == "embedded"
    assert spec.is_causal
    assert spec.bos_token_id is not None
