"""Model folders are checked before anything of them is run."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from catalog.errors import UserError
from tasks.activations.models.language_model import load_language_model, read_model_spec
from tasks.activations.models.source import ModelConfig, check_model_folder, tokenizer_digest, weights_digest

Builder = Callable[..., Path]


@pytest.fixture
def folder(model_builder: Builder, tmp_path: Path) -> Path:
    return model_builder("llama", tmp_path / "model")


def _local(folder: Path) -> ModelConfig:
    return ModelConfig(id="m", source="local", path=str(folder))


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist: check 'path'"):
        read_model_spec(_local(tmp_path / "nowhere"))


def test_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no config\.json"):
        check_model_folder(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_that_comes_with_a_model_is_refused_and_not_run(folder: Path, name: str) -> None:
    canary = folder / "canary"
    (folder / "modeling_evil.py").write_text(f"open({str(canary)!r}, 'w').close()\n")
    content = json.loads((folder / name).read_text())
    content["auto_map"] = {
        "AutoModelForCausalLM": "modeling_evil.Evil",
        "AutoTokenizer": ["modeling_evil.E", None],
    }
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(UserError, match="auto_map"):
        load_language_model(_local(folder))
    assert not canary.exists()


def test_pickled_weights_are_refused_and_not_opened(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickled weights only"):
        load_language_model(_local(folder))


def test_weights_may_not_lie_outside_the_folder(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": "../../elsewhere.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="invalid file"):
        load_language_model(_local(folder))


def test_missing_part_of_sharded_weights_is_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"model-00001-of-00002\.safetensors is missing"):
        read_model_spec(_local(folder))


def test_truncated_weights_are_damaged(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5_000])
    with pytest.raises(UserError, match="damaged"):
        read_model_spec(_local(folder))


def test_missing_and_broken_tokenizers(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer in .* cannot be read"):
        read_model_spec(_local(folder))
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(UserError, match="has no tokenizer"):
        read_model_spec(_local(folder))


def test_digests_follow_content(folder: Path) -> None:
    weights, tokens = weights_digest(folder), tokenizer_digest(folder)
    assert (weights, tokens) == (weights_digest(folder), tokenizer_digest(folder))
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(content))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"bos_token": "</s>"}))
    assert weights_digest(folder) != weights
    assert tokenizer_digest(folder) != tokens


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"id": "m", "source": "huggingface", "path": "a/b"}, "pin 'revision'"),
        ({"id": "m", "source": "huggingface", "path": "a/b", "revision": "main"}, "pin 'revision'"),
        ({"id": "m", "source": "local"}, "'path' belongs"),
        ({"id": "m", "source": "embedded", "path": "x"}, "'path' belongs"),
        ({"id": "m", "source": "local", "path": "x", "revision": "main"}, "'revision' belongs"),
        ({"id": "../m", "source": "embedded"}, "not a valid name"),
    ],
)
def test_configuration_says_what_is_wrong(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig(**settings)


def test_hub_model_that_is_not_there_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    config = ModelConfig(id="m", source="huggingface", path="owner/name", revision="0" * 40)
    with pytest.raises(UserError, match="owner/name at 0000"):
        read_model_spec(config)
