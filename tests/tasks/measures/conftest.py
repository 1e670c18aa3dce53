"""Language models small enough to be recomputed by hand, and documents for them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tasks.activations.models.language_model import LanguageModel
from tasks.activations.text.packing import PackedTokens


@pytest.fixture(scope="session")
def small_llama(as_language_model: Callable[..., LanguageModel]) -> Callable[[int], LanguageModel]:
    """A model of two blocks of width 16 with the weights of a seed."""

    def make(seed: int) -> LanguageModel:
        torch.manual_seed(seed)
        sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
        network: Any = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2))
        for parameter in network.parameters():
            parameter.data.mul_(8)  # predictions far from uniform, so that replacements matter
        return as_language_model(network, f"small-{seed}")

    return make


@pytest.fixture(scope="session")
def two_documents() -> PackedTokens:
    """Four sequences of two documents of 6 tokens, each beginning with a BOS that is not valid."""
    ids = np.random.default_rng(0).integers(2, 49, (4, 12)).astype(np.int32)
    segment = np.repeat([[0] * 6 + [1] * 6], 4, axis=0).astype(np.int32)
    valid = np.ones_like(ids, dtype=bool)
    valid[:, [0, 6]] = False
    ids[:, [0, 6]] = 0
    return PackedTokens(ids, segment, segment, segment, segment, valid, n_train=0)
