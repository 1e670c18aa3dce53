"""Models made from other models on loading: redrawn, with an adapter, quantised."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from catalog.errors import UserError
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.caching.model_check import check_model
from tasks.activations.models.derived import run_digest
from tasks.activations.models.language_model import ModelConfig, load_language_model, read_model_spec

Configs = Callable[[str], ModelConfig]
RANK = 2
INPUTS = {"input_ids": torch.arange(20, 44).reshape(2, 12)}
ACTIVATIONS = ActivationsConfig(hookpoints=("blocks.0.resid_post",), context_length=16, n_tokens=100)


def changed(config: ModelConfig, **fields: Any) -> ModelConfig:
    return ModelConfig.model_validate({**config.canonical(), **fields})


def redrawn(config: ModelConfig, seed: int = 0) -> ModelConfig:
    fields = {"id": "redrawn", "source": "reinitialised", "of": config.canonical(), "seed": seed}
    return ModelConfig.model_validate(fields)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "bert"])
def test_a_reinitialised_model_keeps_the_statistics_of_each_tensor_and_nothing_else(
    model_config: Configs, family: str
) -> None:
    base = load_language_model(model_config(family))
    drawn = load_language_model(redrawn(model_config(family)))
    stored = dict(base.model.named_parameters())
    for name, parameter in drawn.model.named_parameters():
        before = stored[name]
        n, spread = before.numel(), float(before.std(correction=0))
        assert abs(float(parameter.mean() - before.mean())) <= 5 * spread / n**0.5 + 1e-6
        if n >= 512 and spread:
            assert float(parameter.std()) == pytest.approx(spread, rel=0.2)
            both = torch.stack([parameter.flatten(), before.flatten()])
            assert abs(float(torch.corrcoef(both)[0, 1])) < 5 / n**0.5
    assert drawn.spec.tokenizer_digest == base.spec.tokenizer_digest
    assert not torch.allclose(drawn.model(**INPUTS).logits, base.model(**INPUTS).logits, atol=1e-2)


def test_the_seed_decides_the_weights(model_config: Configs) -> None:
    first, again, other = (load_language_model(redrawn(model_config("llama"), seed)) for seed in (0, 0, 1))
    logits = [model.model(**INPUTS).logits for model in (first, again, other)]
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])
    digests = {model.spec.weights_digest for model in (first, again, other)}
    assert len(digests) == 2
    assert run_digest(model_config("llama")) not in digests


def write_adapter(folder: Path, shapes: dict[str, tuple[int, int]], **settings: Any) -> dict[str, Any]:
    """A LoRA adapter for modules of these (out, in) shapes; returns its tensors."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for module, (n_out, n_in) in shapes.items():
        down, up = (torch.randn(shape, generator=generator) for shape in ((RANK, n_in), (n_out, RANK)))
        tensors[f"base_model.model.{module}.lora_A.weight"] = down
        tensors[f"base_model.model.{module}.lora_B.weight"] = up
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "target_modules": ["q_proj"], **settings}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return tensors


@pytest.mark.parametrize(
    ("family", "module", "settings", "scale"),
    [
        ("llama", "model.layers.1.self_attn.q_proj", {}, 4.0),
        ("llama", "model.layers.1.self_attn.q_proj", {"use_rslora": True}, 8 / 2**0.5),
        ("gpt2", "transformer.h.1.attn.c_attn", {"fan_in_fan_out": True}, 4.0),
    ],
)
def test_an_adapter_is_merged_as_scale_times_b_times_a(
    model_config: Configs, tmp_path: Path, family: str, module: str, settings: Any, scale: float
) -> None:
    base = load_language_model(model_config(family))
    before = base.model.get_submodule(module).weight
    shape = tuple(before.shape)[:: -1 if "fan_in_fan_out" in settings else 1]
    tensors = write_adapter(tmp_path / "adapter", {module: shape}, **settings)
    config = changed(model_config(family), adapter=str(tmp_path / "adapter"))
    check_model(config, ACTIVATIONS)
    merged = load_language_model(config)
    down = tensors[f"base_model.model.{module}.lora_A.weight"]
    up = tensors[f"base_model.model.{module}.lora_B.weight"]
    change = scale * torch.einsum("or,ri->oi", up, down)
    expected = before + (change.T if "fan_in_fan_out" in settings else change)
    torch.testing.assert_close(merged.model.get_submodule(module).weight, expected)
    others = {name for name, p in merged.model.named_parameters() if module not in name}
    stored = dict(base.model.named_parameters())
    assert all(torch.equal(dict(merged.model.named_parameters())[name], stored[name]) for name in others)
    assert merged.spec.weights_digest != base.spec.weights_digest


@pytest.mark.parametrize(
    ("shapes", "settings", "sentence"),
    [
        ({"model.layers.9.self_attn.q_proj": (32, 32)}, {}, "belongs to another base model.*is not there"),
        ({"model.layers.1.self_attn.q_proj": (48, 48)}, {}, "has the shape .*, not"),
        ({"model.layers.1.self_attn.q_proj": (32, 32)}, {"use_dora": True}, "uses use_dora"),
        ({"model.layers.1.self_attn.q_proj": (32, 32)}, {"peft_type": "IA3"}, "of the kind 'IA3'"),
        ({"model.layers.1.self_attn.q_proj": (32, 32)}, {"r": 3}, "its rank is 3"),
        ({"model.layers.1.self_attn.q_proj": (32, 32)}, {"lora_alpha": "8"}, "no usable r and lora_alpha"),
    ],
)
def test_an_adapter_of_another_model_or_kind_is_refused_before_loading(
    model_config: Configs, tmp_path: Path, shapes: Any, settings: Any, sentence: str
) -> None:
    write_adapter(tmp_path / "adapter", shapes, **settings)
    config = changed(model_config("llama"), adapter=str(tmp_path / "adapter"))
    with pytest.raises(UserError, match=sentence):
        check_model(config, ACTIVATIONS)


def test_a_missing_adapter_is_one_sentence(model_config: Configs, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"adapter folder .* does not exist"):
        check_model(changed(model_config("llama"), adapter=str(tmp_path / "none")), ACTIVATIONS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"has no adapter_config\.json"):
        check_model(changed(model_config("llama"), adapter=str(tmp_path / "empty")), ACTIVATIONS)


@pytest.mark.parametrize(("quantise", "levels"), [("int8", 256), ("int4", 16)])
def test_quantising_rounds_linear_weights_to_few_levels(
    model_config: Configs, quantise: str, levels: int
) -> None:
    base = load_language_model(model_config("llama"))
    rounded = load_language_model(changed(model_config("llama"), quantise=quantise))
    stored = dict(base.model.named_parameters())
    lost = total = 0.0
    for name, parameter in rounded.model.named_parameters():
        is_linear = name.endswith("_proj.weight")
        assert torch.equal(parameter, stored[name]) != is_linear, name
        if is_linear:
            groups = [parameter] if quantise == "int8" else parameter.split(32, dim=1)
            assert max(len(row.unique()) for group in groups for row in group) <= levels
            lost += float((parameter - stored[name]).double().square().sum())
            total += float(stored[name].double().square().sum())
    assert rounded.quantisation is not None
    assert rounded.quantisation.error == pytest.approx(lost / total, rel=1e-6)
    assert 0 < rounded.quantisation.error < {"int8": 1e-4, "int4": 2e-2}[quantise]
    assert read_model_spec(changed(model_config("llama"), quantise=quantise)) == rounded.spec


def test_a_model_without_linear_layers_is_not_quantised(model_config: Configs) -> None:
    with pytest.raises(UserError, match="no linear layers that can be quantised"):
        load_language_model(changed(model_config("gpt2"), quantise="int8"))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"quantise": "int3"}, "'int8' or 'int4'"),
        ({"seed": 0}, "belong to the source reinitialised"),
        ({"source": "reinitialised", "path": None}, "belong to the source reinitialised, which needs both"),
    ],
)
def test_settings_that_do_not_fit_are_refused(model_config: Configs, fields: Any, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        changed(model_config("llama"), **fields)


def test_a_model_that_uses_nothing_new_keeps_its_fingerprint(model_config: Configs) -> None:
    assert set(model_config("llama").canonical()) == {
        "id",
        "source",
        "path",
        "revision",
        "dtype",
        "hookpoints",
    }


def test_a_redrawn_model_has_one_fingerprint_whatever_its_base_caches(model_config: Configs) -> None:
    base = model_config("llama")
    more = changed(base, hookpoints=("blocks.0.resid_post",))
    assert redrawn(base).canonical() == redrawn(more).canonical()
    assert set(redrawn(base).canonical()["of"]) == set(base.canonical())
