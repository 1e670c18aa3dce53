"""The folder of a dictionary: the layout that SAELens reads, and refusal of what is damaged."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from catalog.errors import UserError
from tasks.dictionaries.base import ARCHITECTURES, Dictionary, build_dictionary, dictionary_config
from tasks.dictionaries.weights import load_dictionary, save_dictionary

SAELENS = {"relu_l1": "standard", "topk": "topk", "batch_topk": "jumprelu", "jumprelu": "jumprelu"}


def make_dictionary(name: str) -> Dictionary:
    """Random weights and thresholds, so that nothing is left at its default."""
    fields = {"architecture": name, "d_sae": 24, "n_tokens": 1, **ARCHITECTURES[name].Config.example}
    dictionary = build_dictionary(dictionary_config(fields), 8)
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for tensor in dictionary.state_dict().values():
            tensor.copy_(torch.rand(tensor.shape, generator=random))
    return dictionary.requires_grad_(False)


def saelens_forward(folder: Path, x: torch.Tensor) -> torch.Tensor:
    """What SAELens 6 computes from such a folder, by its documented rules."""
    config, weights = (
        json.loads((folder / "cfg.json").read_text()),
        load_file(folder / "sae_weights.safetensors"),
    )
    assert config["normalize_activations"] == "none"
    assert config["reshape_activations"] == "none"
    pre = (x - weights["b_dec"] * config["apply_b_dec_to_input"]) @ weights["W_enc"] + weights["b_enc"]
    if config["architecture"] == "standard":
        codes = pre.relu()
    elif config["architecture"] == "topk":
        top = pre.topk(config["k"], dim=-1)
        codes = torch.zeros_like(pre).scatter(-1, top.indices, top.values.relu())
    else:
        assert config["architecture"] == "jumprelu"
        assert weights["threshold"].shape == (config["d_sae"],)
        codes = pre.relu() * (pre > weights["threshold"])
    return codes @ weights["W_dec"] + weights["b_dec"]


@pytest.mark.parametrize("name", sorted(SAELENS))
def test_layout_is_the_one_of_saelens(name: str, tmp_path: Path) -> None:
    dictionary = make_dictionary(name)
    metadata = {"model_name": "pico-a", "hook_name": "blocks.2.hook_resid_post"}
    save_dictionary(dictionary, tmp_path, metadata)
    config = json.loads((tmp_path / "cfg.json").read_text())
    weights = load_file(tmp_path / "sae_weights.safetensors")
    assert config["architecture"] == SAELENS[name]
    assert (config["d_in"], config["d_sae"], config["dtype"]) == (8, 24, "float32")
    assert metadata.items() <= config["metadata"].items()
    shapes = {"W_enc": (8, 24), "W_dec": (24, 8), "b_enc": (24,), "b_dec": (8,)}
    shapes |= {"threshold": (24,)} if SAELENS[name] == "jumprelu" else {}
    assert {key: tuple(tensor.shape) for key, tensor in weights.items()} == shapes
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    x = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(saelens_forward(tmp_path, x), dictionary(x))


def test_files_are_readable_and_nothing_else_is_left(tmp_path: Path) -> None:
    save_dictionary(make_dictionary("topk"), tmp_path / "new" / "folder")
    files = sorted((tmp_path / "new" / "folder").iterdir())
    assert [path.name for path in files] == ["cfg.json", "sae_weights.safetensors"]
    assert files[1].stat().st_mode & 0o044 == 0o044


def test_equal_dictionaries_have_equal_digests(tmp_path: Path) -> None:
    first = save_dictionary(make_dictionary("topk"), tmp_path / "a")
    assert save_dictionary(make_dictionary("topk"), tmp_path / "b") == first
    assert save_dictionary(make_dictionary("relu_l1"), tmp_path / "c") == first, "weights alone count"


def damage_weights(folder: Path) -> None:
    path = folder / "sae_weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)


def edit_config(folder: Path, change: Any) -> None:
    config = json.loads((folder / "cfg.json").read_text())
    change(config)
    (folder / "cfg.json").write_text(json.dumps(config))


DAMAGES = {
    "is damaged": damage_weights,
    "does not exist": lambda folder: (folder / "sae_weights.safetensors").unlink(),
    "No such file": lambda folder: (folder / "cfg.json").unlink(),
    "was not written by featlas": lambda folder: edit_config(folder, lambda config: config.pop("metadata")),
    "has format 99": lambda folder: edit_config(
        folder, lambda config: config["metadata"]["featlas"].update(format=99)
    ),
    "does not fit its cfg.json": lambda folder: edit_config(
        folder, lambda config: config["metadata"]["featlas"].update(reads=[9], writes=[9])
    ),
}


@pytest.mark.parametrize("reason", sorted(DAMAGES))
def test_what_cannot_be_loaded_is_refused_in_one_sentence(reason: str, tmp_path: Path) -> None:
    save_dictionary(make_dictionary("jumprelu"), tmp_path)
    DAMAGES[reason](tmp_path)
    with pytest.raises(UserError, match=reason) as raised:
        load_dictionary(tmp_path)
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", ["", "[]", "{}", "[" * 100_000, "\0"], ids=lambda content: content[:9])
def test_a_configuration_of_anything_is_refused_in_one_sentence(content: str, tmp_path: Path) -> None:
    save_dictionary(make_dictionary("topk"), tmp_path)
    described = json.loads((tmp_path / "cfg.json").read_text())
    for name in ("config", "reads", "weights_digest"):
        own = {key: value for key, value in described["metadata"]["featlas"].items() if key != name}
        (tmp_path / "cfg.json").write_text(json.dumps({"metadata": {"featlas": own}}))
        with pytest.raises(UserError, match="is damaged: restore it"):
            load_dictionary(tmp_path)
    for text in (content, json.dumps({"metadata": {"featlas": []}})):
        (tmp_path / "cfg.json").write_text(text)
        with pytest.raises(UserError, match=r"was not written by featlas|has format"):
            load_dictionary(tmp_path)
