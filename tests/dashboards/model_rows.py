"""The rows of the models of the synthetic catalogue."""

from typing import Any


def model_row(model: str) -> dict[str, Any]:
    """A small embedded model."""
    return {
        "model_id": model,
        "source": "embedded",
        "revision": None,
        "architecture": "llama",
        "n_layers": 4,
        "d_model": 128,
        "vocab_size": 2048,
        "max_context": 256,
        "n_parameters": 1_400_000,
        "tokenizer_digest": "cd" * 32,
        "weights_digest": "ef" * 32,
        "parent_model_id": None,
    }
