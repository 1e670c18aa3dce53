"""What a model folder says is checked against what the stages need: one sentence, before anything runs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from catalog.errors import UserError
from flows.boundary import one_line
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.caching.model_check import check_model
from tasks.activations.models.language_model import load_language_model
from tasks.activations.models.source import ModelConfig
from tests.searching import examples

Builder = Callable[..., Path]
REQUEST = ActivationsConfig(hookpoints=("blocks.1.resid_post",), context_length=16, n_tokens=100)


@pytest.fixture
def folder(model_builder: Builder, tmp_path: Path) -> Path:
    return model_builder("llama", tmp_path / "model", tie_word_embeddings=False)


@pytest.fixture(scope="module")
def pristine(model_builder: Builder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_builder("llama", tmp_path_factory.mktemp("pristine") / "model", tie_word_embeddings=False)


def local(folder: Path) -> ModelConfig:
    return ModelConfig(id="m", source="local", path=str(folder))


def change(folder: Path, **settings: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


@pytest.mark.parametrize("method", ["awq", "gptq", "bitsandbytes", "fp8", "compressed-tensors"])
def test_a_quantised_model_is_refused_by_its_method(folder: Path, method: str) -> None:
    change(folder, quantization_config={"quant_method": method, "bits": 4})
    with pytest.raises(UserError, match=rf"is of a quantised model \({method}\)"):
        check_model(local(folder), REQUEST)


def test_weights_in_a_quantised_format_are_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.float8_e4m3fn)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="quantised number format"):
        check_model(local(folder), REQUEST)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"text_config": {"hidden_size": 32}}, "several kinds of input"),
        ({"is_encoder_decoder": True}, "encoder-decoder"),
        ({"model_type": None}, "has no model_type"),
        ({"model_type": "unheard"}, "not in the table"),
        ({"num_hidden_layers": 2}, "says 2 blocks, the weights hold 0 to 2"),
        ({"num_hidden_layers": 4}, "says 4 blocks, the weights hold 0 to 2"),
        ({"num_hidden_layers": 10**9}, "not a size"),
        ({"num_hidden_layers": True}, "not a size"),
        ({"hidden_size": "32"}, "not a size"),
        ({"hidden_size": 64}, "of width 64"),
        ({"vocab_size": 17}, "says 17 tokens"),
        ({"num_attention_heads": 5, "head_dim": None}, ""),
        ({"max_position_embeddings": 8}, "longer than"),
        ({"hidden_act": "unheard"}, ""),
    ],
)
def test_a_configuration_that_no_stage_can_run_is_refused(
    folder: Path, settings: dict[str, object], said: str
) -> None:
    change(folder, **settings)
    told = outcome(folder)
    assert told != "."
    assert said in told


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"hookpoints": ("blocks.3.resid_post",)}, "blocks 0 to 2"),
        ({"hookpoints": ("blocks.0.resid",)}, "has no 'resid'"),
        ({"hookpoints": ("layer 3",)}, "neither blocks.I.NAME"),
        ({"hookpoints": ()}, "no hookpoint is named"),
        ({"context_length": 65}, "longer than"),
    ],
)
def test_a_request_that_the_model_cannot_serve_is_refused(
    pristine: Path, request_: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        check_model(local(pristine), REQUEST.model_copy(update=request_))


def test_an_embedded_model_is_checked_too() -> None:
    model = ModelConfig(id="pico-a", source="embedded")
    check_model(model, REQUEST)
    with pytest.raises(UserError, match="blocks 0 to 5"):
        check_model(model, REQUEST.model_copy(update={"hookpoints": ("blocks.6.resid_post",)}))


def test_a_missing_bos_and_another_tokenizer_are_refused(folder: Path, model_builder: Builder) -> None:
    path = folder / "tokenizer_config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "bos_token": None}))
    with pytest.raises(UserError, match="has no BOS token"):
        check_model(local(folder), REQUEST)
    path.write_text(json.dumps(content))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["beyond"] = 5_000
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UserError, match="has 5001 tokens, its model"):
        check_model(local(folder), REQUEST)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma2", "bert", "roberta", "distilbert"])
def test_whole_models_of_every_family_pass(family: str, model_builder: Builder, tmp_path: Path) -> None:
    folder = model_builder(family, tmp_path / family)
    check_model(local(folder), REQUEST)


@pytest.mark.parametrize("head", ["none", "classifier", "tied"])
def test_logits_are_read_through_a_stored_head_alone(head: str, folder: Path, model_builder: Builder) -> None:
    if head == "tied":
        model_builder("llama", folder, tie_word_embeddings=True)
    else:
        tensors = load_file(folder / "model.safetensors")
        del tensors["lm_head.weight"]
        if head == "classifier":
            tensors["score.weight"] = torch.ones(2, 32)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    loaded = load_language_model(local(folder), "cpu")
    assert loaded.has_head is (head == "tied")
    assert (loaded.unembedding()[0] is not None) is (head == "tied")


def test_backbone_weights_without_a_place_are_refused_and_old_buffers_are_not(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    load_language_model(local(folder), "cpu")
    tensors["model.layers.0.self_attn.q_norm.weight"] = torch.ones(8)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"use, the first is .*q_norm"):
        load_language_model(local(folder), "cpu")


FIELDS = (
    st.sampled_from(
        [
            "model_type",
            "architectures",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "vocab_size",
        ]
    )
    | st.sampled_from(
        [
            "num_key_value_heads",
            "intermediate_size",
            "max_position_embeddings",
            "rope_parameters",
            "hidden_act",
        ]
    )
    | st.sampled_from(
        ["rms_norm_eps", "dtype", "head_dim", "quantization_config", "text_config", "layer_types", "auto_map"]
    )
)
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 70)
    | st.sampled_from([2**40, 10**30, 0.5, "", "llama", "gpt2"])
)
VALUES |= st.sampled_from(
    [[], {}, ["x"], [3], {"rope_type": "unheard"}, "float8", "bert", {"quant_method": 3}]
)


def outcome(folder: Path) -> str:
    """What the user is told of a model folder; a dot where it loads."""
    try:
        check_model(local(folder), REQUEST)
        load_language_model(local(folder), "cpu")
    except UserError as error:
        return one_line(error)
    return "."


@given(changes=st.dictionaries(FIELDS, VALUES, min_size=1, max_size=2))
@example(changes={"rope_parameters": {"rope_type": "unheard"}})
@example(changes={"num_key_value_heads": 0})
@settings(
    max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_configuration_loads_or_is_one_sentence(
    changes: dict[str, object], pristine: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(pristine, folder, dirs_exist_ok=True)
    change(folder, **changes)
    assert outcome(folder)


@given(
    name=st.sampled_from(["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]),
    place=st.integers(0, 2**31),
    bit=st.integers(0, 7),
    keep=st.floats(0, 1),
    cut=st.booleans(),
)
@settings(
    max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_damaged_file_loads_or_is_one_sentence(
    name: str, place: int, bit: int, keep: float, cut: bool, pristine: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(pristine, folder, dirs_exist_ok=True)
    content = bytearray((folder / name).read_bytes())
    content[(place % min(len(content), 3_000))] ^= 1 << bit
    (folder / name).write_bytes(content[: round(keep * len(content))] if cut else content)
    assert outcome(folder)
