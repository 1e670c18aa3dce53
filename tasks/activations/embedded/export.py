"""From the trained network to a folder in Transformers layout."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from tasks.activations.embedded.network import NORM_EPS, ROPE_BASE, Network
from tasks.activations.embedded.recipes import Recipe
from tasks.activations.embedded.text import BOS_ID, BOS_TOKEN

LLAMA_BLOCK = {
    "norm_attn": "input_layernorm",
    "attn.q": "self_attn.q_proj",
    "attn.k": "self_attn.k_proj",
    "attn.v": "self_attn.v_proj",
    "attn.o": "self_attn.o_proj",
    "norm_mlp": "post_attention_layernorm",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
}
FUSED = "attention.query_key_value"
NEOX_BLOCK = {
    "norm_attn": "input_layernorm",
    "attn.q": FUSED,
    "attn.k": FUSED,
    "attn.v": FUSED,
    "attn.o": "attention.dense",
    "norm_mlp": "post_attention_layernorm",
    "mlp.up": "mlp.dense_h_to_4h",
    "mlp.down": "mlp.dense_4h_to_h",
}
WEIGHTS_FILE = "model.safetensors"


def export_model(network: Network, tokenizer: Tokenizer, recipe: Recipe, folder: Path) -> None:
    """Write ``config.json``, ``model.safetensors`` (float16) and the tokenizer's two files."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.to(torch.float16) for name, tensor in renamed(network, recipe).items()}
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    write_json(folder / "config.json", model_config(recipe))
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS_TOKEN,
            "model_max_length": recipe.context_length,
            "clean_up_tokenization_spaces": False,
        },
    )


def read_weights(network: Network, recipe: Recipe, folder: Path) -> None:
    """Put the weights that `export_model` wrote into the network, in float32."""
    stored = load_file(folder / WEIGHTS_FILE)
    state = {}
    for name in network.state_dict():
        tensor = stored[layout_name(name, recipe)].float()
        is_part = layout_name(name, recipe).rpartition(".")[0].endswith(FUSED)
        state[name] = qkv_part(tensor, name.split(".")[-2], recipe.n_heads) if is_part else tensor
    network.load_state_dict(state)


def renamed(network: Network, recipe: Recipe) -> dict[str, Tensor]:
    """The network's weights under the names of the layout; the tied output matrix is not repeated."""
    parts: dict[str, list[Tensor]] = {}
    for name, tensor in network.state_dict().items():
        parts.setdefault(layout_name(name, recipe), []).append(tensor)
    return {
        name: (fused_qkv(tensors, recipe.n_heads) if len(tensors) > 1 else tensors[0]).contiguous()
        for name, tensors in parts.items()
    }


def layout_name(name: str, recipe: Recipe) -> str:
    """The name in the layout of a weight of `Network`; q, k and v of GPT-NeoX are parts of one weight."""
    trunk, embedding, last_norm, block_names = (
        ("model", "embed_tokens", "norm", LLAMA_BLOCK)
        if recipe.layout == "llama"
        else ("gpt_neox", "embed_in", "final_layer_norm", NEOX_BLOCK)
    )
    module, _, kind = name.rpartition(".")
    if module == "embed":
        return f"{trunk}.{embedding}.{kind}"
    if module == "norm_final":
        return f"{trunk}.{last_norm}.{kind}"
    _, layer, ours = module.split(".", 2)
    return f"{trunk}.layers.{layer}.{block_names[ours]}.{kind}"


def fused_qkv(parts: list[Tensor], n_heads: int) -> Tensor:
    """GPT-NeoX keeps query, key and value of one head together, head after head."""
    by_head = [part.reshape(n_heads, -1, *part.shape[1:]) for part in parts]
    return torch.stack(by_head, dim=1).flatten(0, 2)


def qkv_part(fused: Tensor, part: str, n_heads: int) -> Tensor:
    """The query, key or value ("q", "k" or "v") of `fused_qkv`."""
    by_head = fused.reshape(n_heads, 3, -1, *fused.shape[1:])
    return by_head[:, "qkv".index(part)].flatten(0, 1)


def model_config(recipe: Recipe) -> dict[str, Any]:
    """``config.json`` of the layout."""
    shared = {
        "vocab_size": recipe.vocab_size,
        "hidden_size": recipe.d_model,
        "intermediate_size": recipe.d_mlp,
        "num_hidden_layers": recipe.n_layers,
        "num_attention_heads": recipe.n_heads,
        "max_position_embeddings": recipe.context_length,
        "bos_token_id": BOS_ID,
        "eos_token_id": None,
        "tie_word_embeddings": True,
        "dtype": "float16",
    }
    if recipe.layout == "llama":
        return {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "num_key_value_heads": recipe.n_heads,
            "hidden_act": "silu",
            "rms_norm_eps": NORM_EPS,
            "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_BASE},
            **shared,
        }
    return {
        "model_type": "gpt_neox",
        "architectures": ["GPTNeoXForCausalLM"],
        "hidden_act": "gelu",
        "layer_norm_eps": NORM_EPS,
        "use_parallel_residual": False,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": ROPE_BASE,
            "partial_rotary_factor": 1.0,
        },
        **shared,
    }


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Readable JSON with a line break at the end."""
    path.write_text(json.dumps(value, indent=2) + "\n")
