"""What the gate learns of the norm that an MLP reads from, in two families of models."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from tasks.activations.models.language_model import LanguageModel
from tasks.activations.text.packing import PackedTokens
from tasks.foreign.sample import Hookpoints, gather_sample

HOOKPOINTS = Hookpoints.of(("blocks.1.mlp_in",), ("blocks.1.mlp_out",))
SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
}


def make_network(family: str) -> Any:
    torch.manual_seed(0)
    network: Any = (
        LlamaForCausalLM(LlamaConfig(**SIZES))
        if family == "llama"
        else Gemma2ForCausalLM(Gemma2Config(**SIZES))
    )
    for name, parameter in network.named_parameters():
        if "norm" in name:
            parameter.data += torch.rand(parameter.shape) / 2  # gains of a trained model are not all equal
    return network


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_without_gain_the_input_of_an_mlp_has_unit_mean_square(
    family: str, as_language_model: Callable[..., LanguageModel]
) -> None:
    ids = np.random.default_rng(0).integers(2, 49, (3, 8)).astype(np.int32)
    zeros = np.zeros_like(ids)
    packed = PackedTokens(ids, zeros, zeros, zeros, zeros, np.ones_like(ids, dtype=bool), n_train=0)
    model = as_language_model(make_network(family))
    inputs = gather_sample(model, packed, HOOKPOINTS, 100).inputs_of(HOOKPOINTS)
    assert inputs.gain_D is not None
    assert inputs.shift_D is not None
    assert float(inputs.gain_D.std()) > 0.05
    normed_ND = (inputs.sample_ND - inputs.shift_D) / inputs.gain_D
    torch.testing.assert_close(normed_ND.square().mean(dim=1), torch.ones(24), rtol=0.01, atol=0)
    assert not torch.allclose(inputs.sample_ND.square().mean(dim=1), torch.ones(24), rtol=0.05)
