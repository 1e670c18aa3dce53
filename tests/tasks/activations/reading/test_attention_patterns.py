"""Attention patterns and values of every model type: together they are the hookpoint attn_z."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from catalog.errors import UserError
from tasks.activations.models.language_model import LanguageModel
from tasks.activations.reading.attention_patterns import attention_block, attention_parts, n_attention_heads
from tasks.activations.reading.capture import capture
from tasks.activations.text.inputs import model_inputs

FAMILIES = (
    *("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "gpt2"),
    *("gpt_neox", "gpt_neox_sequential", "bert", "roberta", "distilbert"),
)


def packed(n_segments: int) -> SimpleNamespace:
    """Two sequences of twelve tokens, cut into segments; the second ends with two tokens of padding."""
    segment = np.repeat(np.arange(n_segments), 12 // n_segments)[None].repeat(2, axis=0).astype(np.int32)
    segment[1, 10:] = -1
    token_ids = np.random.default_rng(0).integers(10, 300, (2, 12)).astype(np.int32)
    return SimpleNamespace(token_ids=token_ids, segment=segment)


@pytest.mark.parametrize("n_segments", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_pattern_times_values_is_what_the_model_computes(
    family: str, n_segments: int, language_model: Callable[[str], LanguageModel]
) -> None:
    model: Any = language_model(family)
    tokens: Any = packed(n_segments)
    implementation = model.model.config._attn_implementation
    parts = attention_parts(model, 1, tokens, np.array([0, 1]))
    assert model.model.config._attn_implementation == implementation
    assert n_attention_heads(model) == parts.patterns_BHTS.shape[1] == 4
    assert parts.values_BSGd.shape[2] == (2 if hasattr(model.model.config, "num_key_value_heads") else 4)
    inputs = model_inputs(model, tokens, np.array([0, 1]))
    z_BTD = capture(model, ["blocks.1.attn_z"], inputs)["blocks.1.attn_z"]
    counts = torch.from_numpy(tokens.segment >= 0)
    torch.testing.assert_close(parts.z[counts], z_BTD[counts], atol=1e-5, rtol=1e-4)
    sums_BHT = parts.patterns_BHTS.sum(dim=3).transpose(1, 2)[counts]
    torch.testing.assert_close(sums_BHT, torch.ones_like(sums_BHT))


def test_only_attn_z_has_a_block_of_attention() -> None:
    assert attention_block("blocks.12.attn_z") == 12
    assert attention_block("blocks.1.attn_out") is None
    assert attention_block("module:model.layers.0.self_attn") is None


def test_an_unknown_model_type_is_refused(language_model: Callable[[str], LanguageModel]) -> None:
    model: Any = language_model("llama")
    other: Any = SimpleNamespace(spec=SimpleNamespace(architecture="mamba"), layout=None, model=model.model)
    with pytest.raises(UserError, match="model type 'mamba'"):
        attention_parts(other, 0, packed(1), np.array([0]))
