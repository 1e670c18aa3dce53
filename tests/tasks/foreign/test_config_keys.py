"""No setting of a foreign configuration that changes the arithmetic is passed over in silence."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from catalog.errors import UserError
from flows.boundary import one_line
from tasks.foreign.format import read_foreign
from tests.searching import examples

GOLDEN = Path(__file__).parents[2] / "golden" / "formats"
SAFE = {
    "saelens/standard": "cfg.json",
    "saelens/jumprelu": "cfg.json",
    "saelens/old-topk": "cfg.json",
    "saelens/skip-transcoder": "cfg.json",
    "saelens/temporal-topk": "cfg.json",
    "sparsify/layers.2": "cfg.json",
    "sparsify/layers.2.mlp": "cfg.json",
}
BOUNDED = settings(
    max_examples=examples(80), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def copy(case: str, tmp_path: Path) -> Path:
    folder = tmp_path / Path(case).name
    shutil.copytree(GOLDEN / case, folder, dirs_exist_ok=True)
    return folder


def say(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def told(format_: str, path: Path) -> str:
    """What the user is told of a dictionary; a dot where it is read."""
    try:
        read_foreign(format_, path)
    except UserError as error:
        return one_line(error)
    return "."


@pytest.mark.parametrize("case", SAFE)
def test_what_the_tools_write_is_read(case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert told(case.split("/")[0], copy(case, tmp_path)) == "."
    assert caplog.messages == []


@pytest.mark.parametrize("case", SAFE)
@pytest.mark.parametrize(
    "name", ["input_scale", "output_norm", "use_bias_correction", "pre_act_transform", "clamp_max"]
)
def test_an_unknown_setting_of_the_arithmetic_is_refused(case: str, name: str, tmp_path: Path) -> None:
    folder = copy(case, tmp_path)
    say(folder / SAFE[case], **{name: False})
    assert told(case.split("/")[0], folder) == "."
    say(folder / SAFE[case], **{name: 2.5})
    assert f"does not know the setting {name}: 2.5" in told(case.split("/")[0], folder)


@pytest.mark.parametrize("case", SAFE)
def test_any_other_unknown_setting_and_tensor_is_reported(
    case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copy(case, tmp_path)
    say(folder / SAFE[case], favourite_colour="blue")
    (weights,) = folder.glob("sae*.safetensors")
    save_file({**load_file(weights), "odd": torch.ones(2)}, weights)
    with caplog.at_level(logging.WARNING):
        assert told(case.split("/")[0], folder) == "."
    assert "favourite_colour" in " ".join(caplog.messages)
    assert "odd" in " ".join(caplog.messages)


@pytest.mark.parametrize(
    ("case", "values", "said"),
    [
        ("saelens/old-topk", {"activation_fn_str": "tanh-relu"}, "activation_fn 'tanh-relu'"),
        ("saelens/old-standard", {"activation_fn_str": "tanh-relu"}, "activation_fn 'tanh-relu'"),
        ("saelens/standard", {"activation_fn": "tanh-relu"}, "activation_fn 'tanh-relu'"),
        ("saelens/old-topk", {"activation_fn_kwargs": {"k": 3, "postact": "abs"}}, "it reads only k"),
        ("saelens/topk", {"d_sae": 48}, "says d_sae 48, the tensors have 24"),
        ("saelens/topk", {"d_in": 16}, "says d_in 16, the tensors have 8"),
        ("saelens/skip-transcoder", {"d_out": 8}, "says d_out 8, the tensors have 10"),
        ("saelens/topk", {"d_sae": True}, "d_sae is True, not a whole number"),
        ("saelens/topk", {"k": True}, "k is True, not a whole number"),
        ("saelens/topk", {"k": 2.5}, "k is 2.5, not a whole number"),
        ("saelens/standard", {"apply_b_dec_to_input": "false"}, "neither true nor false"),
        ("saelens/standard", {"hook_head_index": 3}, "hook_head_index 3"),
        ("saelens/temporal-topk", {"sae_diff_type": "nullify"}, "sae_diff_type 'nullify'"),
        ("sparsify/layers.2", {"signed": True}, "signed True"),
        ("sparsify/layers.2", {"num_latents": 25}, "says num_latents 25, the tensors have 24"),
        ("sparsify/layers.2", {"d_in": 9}, "says d_in 9, the tensors have 8"),
        ("sparsify/layers.2", {"k": True}, "k is True, not a whole number"),
        ("sparsify/layers.2", {"transcode": "no"}, "neither true nor false"),
        ("sparsify/layers.2.mlp", {"skip_connection": False}, "the tensors disagree"),
        ("gemma_scope/second-affine", {"architecture": "topk"}, "architecture 'topk'"),
        ("gemma_scope/second-affine", {"affine_connection": False}, "the tensors disagree"),
    ],
)
def test_a_setting_that_would_be_read_as_something_else_is_refused(
    case: str, values: dict[str, Any], said: str, tmp_path: Path
) -> None:
    folder = copy(case, tmp_path)
    (config,) = (folder / name for name in ("cfg.json", "config.json") if (folder / name).is_file())
    say(config, **values)
    assert said in told(case.split("/")[0], folder)


@pytest.fixture
def trainer(tmp_path: Path) -> Path:
    """A folder of dictionary_learning with safe weights."""
    state = {"encoder.weight": torch.randn(24, 8), "encoder.bias": torch.zeros(24)}
    state |= {"decoder.weight": torch.randn(8, 24), "b_dec": torch.zeros(8), "k": torch.tensor(4)}
    save_file(state, tmp_path / "ae.safetensors")
    config = {"dict_class": "AutoEncoderTopK", "activation_dim": 8, "dict_size": 24, "k": 4, "layer": 1}
    config |= {"submodule_name": "mlp"}
    (tmp_path / "config.json").write_text(json.dumps({"trainer": config, "buffer": {"io": "out"}}))
    return tmp_path


@pytest.mark.parametrize("case", sorted(path.name for path in (GOLDEN / "dictionary_learning").iterdir()))
def test_what_trainers_write_is_read(case: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read_foreign("dictionary_learning", GOLDEN / "dictionary_learning" / case, allow_pickle=True)
    assert caplog.messages == []


def test_a_trainer_with_another_arithmetic_is_refused(
    trainer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a fork that whitens its activations and says so here alone."""
    content = json.loads((trainer / "config.json").read_text())

    def with_setting(**values: Any) -> str:
        own = {**content, "trainer": {**content["trainer"], **values}}
        (trainer / "config.json").write_text(json.dumps(own))
        return told("dictionary_learning", trainer)

    assert with_setting(use_pca_whitening=False) == "."
    assert "the setting use_pca_whitening: True" in with_setting(use_pca_whitening=True)
    assert "the setting input_scale: 2.5" in with_setting(input_scale=2.5)
    with caplog.at_level(logging.WARNING):
        assert with_setting(favourite_colour="blue") == "."
    assert "favourite_colour" in " ".join(caplog.messages)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"hook_point": "blocks.2.hook_resid_pre", "dec_init_norm": 0.1, "d_in": 8}, "."),
        ({"input_scale": 2.5}, "the setting input_scale: 2.5"),
        ({"trainer": {"use_pca_whitening": True}}, "the setting use_pca_whitening: True"),
        ({"trainer": {"dict_class_kwargs": {"clamp_max": 3.5}}}, "the setting clamp_max: 3.5"),
        ({"trainer": {"code_normalization_alpha_cc": 0.1, "target_rms": 10.0}}, "."),
    ],
)
def test_a_crosscoder_with_another_arithmetic_is_refused(
    config: dict[str, Any], said: str, tmp_path: Path
) -> None:
    folder = copy("crosscoder/replication", tmp_path)
    weights = folder / "cc_weights.pt"
    (folder / "cfg.json").write_text(json.dumps(config))
    try:
        read_foreign("crosscoder", weights, allow_pickle=True)
        found = "."
    except UserError as error:
        found = one_line(error)
    assert said in found


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_what_a_wrapper_puts_before_every_name_is_taken_off(prefix: str, trainer: Path) -> None:
    plain = read_foreign("dictionary_learning", trainer)
    state = load_file(trainer / "ae.safetensors")
    save_file({prefix + name: tensor for name, tensor in state.items()}, trainer / "ae.safetensors")
    wrapped = read_foreign("dictionary_learning", trainer)
    assert torch.equal(plain.W_enc, wrapped.W_enc)
    assert (plain.k, plain.activation) == (wrapped.k, wrapped.activation)
    save_file({**state, f"_orig_mod.{min(state)}": state[min(state)].clone()}, trainer / "ae.safetensors")
    assert "both with and without" in told("dictionary_learning", trainer)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trainer": {"dict_size": 25}}, "says dict_size 25"),
        ({"trainer": {"activation_dim": 9}}, "says activation_dim 9"),
        ({"trainer": {"k": 5}}, "says k 5, the tensors have 4"),
        ({"buffer": {"io": "in_and_out"}}, "buffer.io 'in_and_out'"),
    ],
)
def test_a_trainer_that_disagrees_with_its_tensors_is_refused(
    changes: dict[str, dict[str, Any]], said: str, trainer: Path
) -> None:
    path = trainer / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({name: {**part, **changes.get(name, {})} for name, part in content.items()}))
    assert said in told("dictionary_learning", trainer)


def test_the_side_of_the_submodule_decides_the_hookpoint(trainer: Path) -> None:
    assert read_foreign("dictionary_learning", trainer).reads == ("blocks.1.mlp_out",)
    say(trainer / "config.json", buffer={"io": "in"})
    assert read_foreign("dictionary_learning", trainer).reads == ("blocks.1.mlp_in",)


VALUES = st.none() | st.booleans() | st.integers(-2, 30) | st.floats() | st.text(max_size=6)
VALUES |= st.sampled_from([[], {}, [1], {"k": 2}, 10**30, "topk", "none", "blocks.1.hook_resid_post"])
NAMES = [
    "architecture",
    "k",
    "d_in",
    "d_sae",
    "metadata",
    "normalize_activations",
    "activation_fn",
    "activation",
]
NAMES += [
    "activation_fn_kwargs",
    "apply_b_dec_to_input",
    "matryoshka_widths",
    "hook_name",
    "num_latents",
    "transcode",
]
NAMES += [
    "n_heads",
    "n_attn_layers",
    "bottleneck_factor",
    "kval_topk",
    "n_sources",
    "coalesce_topk",
    "residual_threshold",
]
NAMES += ["activation_normalization_factor", "skip_connection", "model_name"]


@given(
    case=st.sampled_from(sorted(SAFE)),
    values=st.dictionaries(st.sampled_from(NAMES), VALUES, min_size=1, max_size=3),
)
@example(case="saelens/old-topk", values={"activation_fn_kwargs": [1]})
@BOUNDED
def test_any_configuration_is_read_or_one_sentence(case: str, values: dict[str, Any], tmp_path: Path) -> None:
    folder = copy(case, tmp_path)
    say(folder / SAFE[case], **values)
    assert told(case.split("/")[0], folder)


@given(
    case=st.sampled_from(sorted(SAFE)),
    place=st.floats(0, 1),
    bit=st.integers(0, 7),
    cut=st.booleans(),
    config=st.booleans(),
)
@BOUNDED
def test_a_damaged_file_is_read_or_one_sentence(
    case: str, place: float, bit: int, cut: bool, config: bool, tmp_path: Path
) -> None:
    folder = copy(case, tmp_path)
    (weights,) = folder.glob("sae*.safetensors")
    path = folder / SAFE[case] if config else weights
    content = bytearray(path.read_bytes())
    content[int(place * (min(len(content), 2_000) - 1))] ^= 1 << bit
    path.write_bytes(content[: int(place * len(content))] if cut else content)
    assert told(case.split("/")[0], folder)
