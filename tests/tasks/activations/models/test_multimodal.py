"""A checkpoint that reads images too: its language model is found, loaded, hooked and counted alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from catalog.errors import UserError
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.caching.model_check import check_model
from tasks.activations.models.language_model import load_language_model, read_model_spec
from tasks.activations.models.source import ModelConfig
from tasks.activations.reading.capture import capture

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 5,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
REQUEST = ActivationsConfig(hookpoints=("blocks.1.resid_post",), context_length=16, n_tokens=100)
INPUTS = {"input_ids": torch.arange(20, 44).reshape(2, 12)}


class Mixed(NamedTuple):
    """A saved checkpoint, and the model it was saved from."""

    folder: Path
    whole: Any

    @property
    def config(self) -> ModelConfig:
        return ModelConfig(id="mixed", source="local", path=str(self.folder))


def gemma3(text: dict[str, Any]) -> Any:
    places = {"image_token_index": 96, "boi_token_index": 95, "eoi_token_index": 94, "mm_tokens_per_image": 4}
    inner = {**text, "head_dim": 16, "sliding_window": 5}
    return Gemma3ForConditionalGeneration(Gemma3Config(text_config=inner, vision_config=VISION, **places))


def llava(text: dict[str, Any]) -> Any:
    towers = {"vision_config": CLIPVisionConfig(**VISION), "image_token_index": 96}
    return LlavaForConditionalGeneration(LlavaConfig(text_config=LlamaConfig(**text), **towers))


@pytest.fixture(scope="module", params=[gemma3, llava], ids=["gemma3", "llava"])
def mixed(request: Any, model_builder: Callable[..., Path], tmp_path_factory: Any) -> Mixed:
    folder = model_builder("llama", tmp_path_factory.mktemp("mixed") / "model")
    (folder / "model.safetensors").unlink()
    n_tokens = json.loads((folder / "config.json").read_text())["vocab_size"]
    torch.manual_seed(0)
    whole = request.param({**TEXT, "vocab_size": n_tokens}).eval()
    with torch.no_grad():
        for parameter in whole.parameters():  # larger than the default: attention and norms must matter
            parameter.add_(torch.randn_like(parameter) * 0.1)
    whole.save_pretrained(folder)
    return Mixed(folder, whole)


def test_its_language_model_gives_the_same_logits_and_stream(mixed: Mixed) -> None:
    check_model(mixed.config, REQUEST)
    loaded = load_language_model(mixed.config, device="cpu")
    with torch.no_grad():
        expected = mixed.whole(**INPUTS, output_hidden_states=True)
        logits = loaded.model(**INPUTS).logits
    torch.testing.assert_close(logits, expected.logits)
    stream = capture(loaded, ["blocks.1.resid_post"], INPUTS)["blocks.1.resid_post"]
    torch.testing.assert_close(stream, expected.hidden_states[2])
    assert loaded.has_head
    assert loaded.unembedding()[0] is not None


def test_only_the_language_model_is_counted_and_described(mixed: Mixed) -> None:
    spec, loaded = read_model_spec(mixed.config), load_language_model(mixed.config, device="cpu")
    assert spec == loaded.spec
    assert (spec.n_layers, spec.d_model, spec.architecture) == (3, 32, loaded.model.config.model_type)
    assert spec.n_parameters == sum(parameter.numel() for parameter in loaded.model.parameters())
    assert spec.n_parameters < sum(parameter.numel() for parameter in mixed.whole.parameters())


def test_its_blocks_are_those_of_the_language_model(mixed: Mixed) -> None:
    """The tower has five blocks, the language model three."""
    with pytest.raises(UserError, match="blocks 0 to 2"):
        check_model(mixed.config, REQUEST.model_copy(update={"hookpoints": ("blocks.4.resid_post",)}))


def test_one_without_a_language_model_of_its_own_is_refused(mixed: Mixed, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((mixed.folder / name).read_bytes())
    tensors = load_file(mixed.folder / "model.safetensors")
    other = {name.replace("language_model", "decoder"): tensor for name, tensor in tensors.items()}
    save_file(
        {name: tensor for name, tensor in other.items() if not name.startswith("lm_head")},
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(UserError, match="whose language model cannot be identified"):
        check_model(ModelConfig(id="mixed", source="local", path=str(tmp_path)), REQUEST)


@pytest.mark.parametrize(
    ("hookpoint", "said"),
    [
        ("module:model.layers.1.mlp", None),
        ("module:model.layers.1.mlp:input", None),
        ("module:model.layers.1.mpl", "has no module 'model.layers.1.mpl'"),
        ("module:model.layers.3", "has no module 'model.layers.3'"),
    ],
)
def test_a_module_is_looked_up_before_anything_runs(
    model_config: Callable[[str], ModelConfig], mixed: Mixed, hookpoint: str, said: str | None
) -> None:
    request = REQUEST.model_copy(update={"hookpoints": (hookpoint,)})
    for model in (model_config("llama"), mixed.config):
        if said is None:
            check_model(model, request)
            continue
        with pytest.raises(UserError, match=said):
            check_model(model, request)
