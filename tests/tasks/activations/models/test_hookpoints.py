"""Hookpoints mean the same everywhere; where they cannot, what they mean is pinned here."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.activations.hookpoint import NAMES
from tasks.activations.models.hookpoints import LAYOUTS, resolve_hookpoint
from tasks.activations.models.language_model import LanguageModel
from tasks.activations.reading.capture import capture, hookpoint_width

Loader = Callable[[str], LanguageModel]
SEQUENTIAL = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gpt2", "gpt_neox_sequential")
SANDWICH = ("gemma2", "gemma3_text")
POST_NORM = ("bert", "roberta", "distilbert")
FAMILIES = (*SEQUENTIAL, *SANDWICH, *POST_NORM, "gpt_neox")
BLOCK = 1


def _inputs(language_model: LanguageModel) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    token_ids = torch.randint(5, language_model.spec.vocab_size, (2, 12), generator=generator)
    return {"input_ids": token_ids}


def _block(language_model: LanguageModel, *names: str) -> list[Tensor]:
    hookpoints = [f"blocks.{BLOCK}.{name}" for name in names]
    captured = capture(language_model, hookpoints, _inputs(language_model))
    return [captured[name] for name in hookpoints]


def test_every_known_model_type_is_tested() -> None:
    assert {family.removesuffix("_sequential") for family in FAMILIES} == set(LAYOUTS)


@pytest.mark.parametrize("family", [*SEQUENTIAL, *SANDWICH])
def test_stream_is_the_sum_of_what_was_added(language_model: Loader, family: str) -> None:
    pre, attn_out, mid, mlp_out, post = _block(
        language_model(family), "resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"
    )
    torch.testing.assert_close(pre + attn_out, mid)
    torch.testing.assert_close(mid + mlp_out, post)
    assert attn_out.abs().max() > 0.01
    assert mlp_out.abs().max() > 0.01


def test_parallel_blocks_add_both_at_once_and_have_no_middle(language_model: Loader) -> None:
    model = language_model("gpt_neox")
    pre, attn_out, mlp_out, post = _block(model, "resid_pre", "attn_out", "mlp_out", "resid_post")
    torch.testing.assert_close(pre + attn_out + mlp_out, post)
    with pytest.raises(UserError, match="no 'resid_mid'; it has resid_pre"):
        resolve_hookpoint(model.model, f"blocks.{BLOCK}.resid_mid")


@pytest.mark.parametrize("family", POST_NORM)
def test_post_norm_streams_are_norms_of_the_sums(language_model: Loader, family: str) -> None:
    model = language_model(family)
    pre, attn_out, mid, mlp_out, post = _block(
        model, "resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"
    )
    block = model.model.get_submodule(resolve_hookpoint(model.model, f"blocks.{BLOCK}.resid_post").module)
    if family == "distilbert":
        after_attention, after_mlp = block.sa_layer_norm, block.output_layer_norm
    else:
        after_attention, after_mlp = block.attention.output.LayerNorm, block.output.LayerNorm
    torch.testing.assert_close(after_attention(pre + attn_out), mid)
    torch.testing.assert_close(after_mlp(mid + mlp_out), post)


@pytest.mark.parametrize("family", SANDWICH)
def test_sandwich_norms_stand_between_module_and_stream(language_model: Loader, family: str) -> None:
    model = language_model(family)
    (attn_out,) = _block(model, "attn_out")
    path = f"module:model.layers.{BLOCK}.self_attn"
    raw = capture(model, [path], _inputs(model))[path]
    norm = model.model.get_submodule(f"model.layers.{BLOCK}.post_attention_layernorm")
    torch.testing.assert_close(norm(raw), attn_out)
    assert not torch.allclose(raw, attn_out, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_stream_is_what_transformers_calls_hidden_states(language_model: Loader, family: str) -> None:
    model = language_model(family)
    inputs = _inputs(model)
    with torch.no_grad():
        hidden = model.model(**inputs, output_hidden_states=True).hidden_states
    names = [f"blocks.{i}.resid_pre" for i in range(3)] + [f"blocks.{i}.resid_post" for i in range(2)]
    captured = capture(model, names, inputs)
    for i in range(3):
        torch.testing.assert_close(captured[f"blocks.{i}.resid_pre"], hidden[i])
    for i in range(2):  # the last of hidden_states is after the final norm
        torch.testing.assert_close(captured[f"blocks.{i}.resid_post"], hidden[i + 1])


@pytest.mark.parametrize("family", FAMILIES)
def test_projections_lead_from_inner_values_to_what_is_added(language_model: Loader, family: str) -> None:
    model = language_model(family)
    attn_z, mlp_act, mlp_in = _block(model, "attn_z", "mlp_act", "mlp_in")
    for name, inner in (("attn_z", attn_z), ("mlp_act", mlp_act)):
        point = resolve_hookpoint(model.model, f"blocks.{BLOCK}.{name}")
        projection = f"module:{point.module}"
        projected = capture(model, [projection], _inputs(model))[projection]
        torch.testing.assert_close(model.model.get_submodule(point.module)(inner), projected)
        assert inner.shape[2] == point.width
    assert mlp_act.shape[2] == 48
    assert mlp_in.shape[2] == 32


@pytest.mark.parametrize("family", FAMILIES)
def test_widths_are_known_without_a_forward_pass(language_model: Loader, family: str) -> None:
    model = language_model(family)
    for name in NAMES:
        if family == "gpt_neox" and name == "resid_mid":
            continue
        hookpoint = f"blocks.0.{name}"
        value = capture(model, [hookpoint], _inputs(model))[hookpoint]
        assert resolve_hookpoint(model.model, hookpoint).width == value.shape[2]


def test_any_module_can_be_named_by_its_path(language_model: Loader) -> None:
    model = language_model("llama")
    hookpoint = "module:model.layers.1.mlp.down_proj:input"
    captured = capture(model, [hookpoint, "blocks.1.mlp_act"], _inputs(model))
    torch.testing.assert_close(captured[hookpoint], captured["blocks.1.mlp_act"])
    assert hookpoint_width(model, "module:model.layers.0.mlp.up_proj") == 48


@pytest.mark.parametrize(
    ("hookpoint", "message"),
    [
        ("blocks.3.resid_post", "the model has blocks 0 to 2"),
        ("blocks.1.residual", "no 'residual'; it has resid_pre"),
        ("model.layers.1", "neither blocks.I.NAME"),
        ("module:model.layers.7", "no module 'model.layers.7'"),
        ("blocks.1.resid_post:input", "neither blocks.I.NAME"),
    ],
)
def test_wrong_names_are_explained(language_model: Loader, hookpoint: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_hookpoint(language_model("llama").model, hookpoint)


def test_model_types_outside_the_table_need_module_paths(language_model: Loader) -> None:
    model = language_model("llama").model
    original = model.config.model_type
    try:
        model.config.model_type = "novelty"
        with pytest.raises(UserError, match="model type 'novelty' is not in the table"):
            resolve_hookpoint(model, "blocks.1.resid_post")
        assert resolve_hookpoint(model, "module:model.layers.1").width is None
    finally:
        model.config.model_type = original
