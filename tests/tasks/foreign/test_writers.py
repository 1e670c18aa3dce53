"""Exports: what is written is read back alike, and what a tool has no place for is refused.

That the tools themselves load these folders and encode alike was checked with sae-lens 6.54.12, eai-sparsify
1.3.3 and circuit-tracer 0.5.0; here the readers, which equal the tools on their own folders, stand in.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from catalog.errors import UserError
from tasks.dictionaries.base import ARCHITECTURES, Dictionary, build_dictionary, dictionary_config
from tasks.dictionaries.widths import Widths
from tasks.foreign.assembly import assemble
from tasks.foreign.format import Written, format_named, read_foreign, writers

SPARSIFY = ("topk", "topk_transcoder", "skip_transcoder")


def make(architecture: str, **fields: Any) -> Dictionary:
    """A dictionary of that architecture with random weights."""
    example = ARCHITECTURES[architecture].Config.example
    known = {"architecture": architecture, "d_sae": 24, "n_tokens": 1, **example, **fields}
    dictionary = build_dictionary(dictionary_config(known), Widths.single(8))
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, tensor in sorted(dictionary.state_dict().items()):
            value = torch.randn(tensor.shape, generator=random) * 0.5
            tensor.copy_(value.abs() if "threshold" in name else value)
        if architecture == "matching_pursuit":
            dictionary.W_enc.copy_(dictionary.W_dec.T)
            dictionary.b_enc.zero_()
    return dictionary.eval().requires_grad_(False)


def has_one_hookpoint(architecture: str) -> bool:
    made = ARCHITECTURES[architecture]
    return made.how_trained == "steps" and len(made.Config.example.get("reads", [])) < 2


ONE_HOOKPOINT = [name for name in ARCHITECTURES.names() if has_one_hookpoint(name)]
SAELENS = [name for name in ONE_HOOKPOINT if make(name).saelens() is not None]


def written(dictionary: Dictionary) -> Written:
    is_transcoder = not dictionary.reconstructs_input
    reads = ("blocks.1.mlp_in",) if is_transcoder else ("blocks.1.resid_post",)
    return Written(dictionary, "pico-a", reads, ("blocks.1.mlp_out",) if is_transcoder else reads, {})


@pytest.mark.parametrize(
    ("name", "architecture"),
    [("saelens", name) for name in SAELENS] + [("sparsify", name) for name in SPARSIFY],
)
def test_a_written_folder_encodes_and_decodes_alike(name: str, architecture: str, tmp_path: Path) -> None:
    dictionary = make(architecture)
    folder = tmp_path / "layers.1.mlp"
    format_named(name).write(written(dictionary), folder)
    foreign = read_foreign(name, folder)
    x = torch.randn(20, 8, generator=torch.Generator().manual_seed(3))
    again = assemble(foreign)
    torch.testing.assert_close(again.encode(x), dictionary.encode(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(again(x), dictionary(x), rtol=1e-5, atol=1e-5)
    assert foreign.writes == (("blocks.1.mlp_out",) if name == "sparsify" else written(dictionary).writes)


@pytest.mark.parametrize("architecture", [name for name in ONE_HOOKPOINT if make(name).saelens() is None])
def test_what_saelens_does_not_have_is_refused_by_name(architecture: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"has no architecture that encodes as {architecture} does"):
        format_named("saelens").write(written(make(architecture)), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("architecture", SPARSIFY)
def test_one_per_group_is_groupmax_in_sparsify_and_unknown_to_saelens(
    architecture: str, tmp_path: Path
) -> None:
    dictionary = make(architecture, one_per_group=True)
    format_named("sparsify").write(written(dictionary), tmp_path / "layers.1.mlp")
    again = assemble(read_foreign("sparsify", tmp_path / "layers.1.mlp"))
    x = torch.randn(20, 8, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(again.encode(x), dictionary.encode(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(again(x), dictionary(x), rtol=1e-5, atol=1e-5)
    assert not torch.equal(dictionary.encode(x), make(architecture).encode(x))
    with pytest.raises(UserError, match="has no architecture that encodes as"):
        format_named("saelens").write(written(dictionary), tmp_path / "other")


def test_names_of_hookpoints_are_those_of_transformer_lens(tmp_path: Path) -> None:
    """What an MLP reads, with the gain of the norm, is no ``hook_normalized``; heads lie side by side."""
    format_named("saelens").write(written(make("transcoder")), tmp_path / "a")
    metadata = json.loads((tmp_path / "a" / "cfg.json").read_text())["metadata"]
    assert (metadata["hook_name"], metadata["hook_name_out"]) == (
        "blocks.1.mlp.hook_in",
        "blocks.1.hook_mlp_out",
    )
    heads = Written(make("topk"), "pico-a", ("blocks.1.attn_z",), ("blocks.1.attn_z",), {})
    format_named("saelens").write(heads, tmp_path / "b")
    config = json.loads((tmp_path / "b" / "cfg.json").read_text())
    assert (config["reshape_activations"], config["metadata"]["hook_name"]) == (
        "hook_z",
        "blocks.1.attn.hook_z",
    )
    assert read_foreign("saelens", tmp_path / "b").reads == ("blocks.1.attn_z",)


def test_skip_and_token_norm_survive(tmp_path: Path) -> None:
    x = torch.randn(20, 8, generator=torch.Generator().manual_seed(3))
    for number, dictionary in enumerate(
        (make("transcoder", skip=True), make("topk", token_norm="layer_norm"))
    ):
        format_named("saelens").write(written(dictionary), tmp_path / str(number))
        again = assemble(read_foreign("saelens", tmp_path / str(number)))
        torch.testing.assert_close(again(x), dictionary(x), rtol=1e-5, atol=1e-5)


def test_the_configuration_names_version_model_and_hookpoint(tmp_path: Path) -> None:
    format_named("saelens").write(written(make("topk")), tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    assert config["metadata"]["sae_lens_version"].startswith("6.")
    assert config["metadata"]["model_name"] == "pico-a"
    assert config["metadata"]["hook_name"] == "blocks.1.hook_resid_post"


@pytest.mark.parametrize(
    ("name", "architecture", "reason"),
    [
        ("saelens", "group_bias_adaptation", "has no architecture that encodes as group_bias_adaptation"),
        ("sparsify", "relu_l1", "has only TopK dictionaries"),
        (
            "gemma_scope",
            "jumprelu",
            "formats that are written: circuit_tracer, saelens, sparsify",
        ),
        ("circuit_tracer", "topk_transcoder", "has only transcoder and jumprelu_transcoder, not topk_tran"),
    ],
)
def test_what_has_no_place_is_refused(name: str, architecture: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=reason):
        format_named(name).write(written(make(architecture)), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_writers_are_listed() -> None:
    assert writers() == "circuit_tracer, saelens, sparsify"


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [("transcoder", {}), ("transcoder", {"skip": True}), ("jumprelu_transcoder", {})],
)
def test_circuit_tracer_gets_a_file_per_layer(
    architecture: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    dictionary = make(architecture, **settings)
    format_named("circuit_tracer").write(written(dictionary), tmp_path / "set")
    foreign = read_foreign("circuit_tracer", tmp_path / "set" / "layer_1.safetensors")
    assert (foreign.reads, foreign.writes) == (("blocks.1.mlp_in",), ("blocks.1.mlp_out",))
    assert foreign.model_name == "pico-a"
    x = torch.randn(20, 8, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(assemble(foreign).encode(x), dictionary.encode(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(assemble(foreign)(x), dictionary(x), rtol=1e-5, atol=1e-5)
    (tmp_path / "set" / "layer_2.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="holds 2 files layer_N"):
        read_foreign("circuit_tracer", tmp_path / "set")
