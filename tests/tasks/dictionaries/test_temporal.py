"""Temporal dictionaries: what the tokens before a token predict of it, and only those of its document."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file, save_file

from catalog.errors import UserError
from tasks.activations.reading.shards import ActivationSet
from tasks.dictionaries.architectures.temporal import Temporal
from tasks.dictionaries.base import AnyDictionaryConfig, Dictionary, build_dictionary, dictionary_config
from tasks.dictionaries.families.temporal_attention import CodeAttention
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.dictionaries.stream import read_valid
from tasks.foreign.assembly import assemble
from tasks.foreign.format import Written, format_named, read_foreign
from tasks.foreign.source import foreign_digest
from tasks.training.trainer import train

GOLDEN = Path(__file__).parents[2] / "golden" / "formats" / "saelens"
CASES = sorted(path.name for path in GOLDEN.glob("*temporal*"))
D = 8
CONFIG = {
    "architecture": "temporal",
    "k": 3,
    "d_sae": 24,
    "n_heads": 2,
    "bottleneck_factor": 4,
    "n_tokens": 1,
}


def make(**changes: Any) -> Dictionary:
    """Two layers of random weights, strong enough that what is predicted matters."""
    dictionary = build_dictionary(dictionary_config({**CONFIG, "n_layers": 2, **changes}), D)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in sorted(dictionary.state_dict().items()):
            if name not in ("epsilon", "b_enc"):
                tensor.copy_(torch.randn(tensor.shape, generator=random))
    return dictionary.eval().requires_grad_(False)


def sequences(*lengths: int, seed: int = 2) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(length, D, generator=random) * 3 + 1 for length in lengths]


def alone(dictionary: Dictionary, x_TD: torch.Tensor) -> torch.Tensor:
    """The rows of one document that has a sequence to itself."""
    return dictionary.in_context(x_TD[None], torch.zeros(1, len(x_TD), dtype=torch.int32))[0]


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_for_saelens_is_the_same_dictionary(case: str, tmp_path: Path) -> None:
    """That SAELens loads these folders with equal codes and outputs was checked with 6.54.12."""
    expected = load_file(GOLDEN / case / "expected.safetensors")
    dictionary = assemble(read_foreign("saelens", GOLDEN / case))
    place = ("blocks.2.resid_post",)
    format_named("saelens").write(Written(dictionary, "pico-a", place, place, {}), tmp_path)
    written = assemble(read_foreign("saelens", tmp_path))
    rows_NW = written.in_context(expected["x"], torch.zeros(expected["x"].shape[:2])).flatten(0, 1)
    torch.testing.assert_close(written.encode(rows_NW), expected["acts"].flatten(0, 1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(written(rows_NW), expected["out"].flatten(0, 1), rtol=1e-5, atol=1e-5)
    assert rows_NW[:, D:].norm() > 0.1 * rows_NW[:, :D].norm(), "something is predicted"


def mapped(x: torch.Tensor, linear: torch.nn.Linear) -> torch.Tensor:
    return x @ linear.weight.T + linear.bias


def plainly(dictionary: Temporal, x_TD: torch.Tensor) -> torch.Tensor:
    """The predicted part of one document, token by token, by the formulas of the paper's code."""
    residual = x_TD - dictionary.b_dec
    for layer in dictionary.attn_layers:
        assert isinstance(layer, CodeAttention)
        codes = (residual @ dictionary.W_enc / (4 * D)).relu()
        left = residual.clone()
        for t in range(len(x_TD)):
            earlier = torch.cat([torch.zeros(1, codes.shape[1]), codes[:t]])
            query = mapped(codes[t], layer.q_target).chunk(layer.n_heads)
            keys, values = mapped(earlier, layer.k_ctx), mapped(earlier, layer.v_ctx)
            heads = zip(query, keys.chunk(layer.n_heads, 1), values.chunk(layer.n_heads, 1), strict=True)
            found = [torch.softmax(k @ q / len(q) ** 0.5, 0) @ v for q, k, v in heads]
            part = mapped(torch.cat(found), layer.c_proj).relu() @ dictionary.W_dec
            left[t] -= (part @ residual[t]) / (part.norm() + 1e-6) ** 2 * part
        residual = left
    return x_TD - dictionary.b_dec - residual


def test_a_token_is_predicted_from_those_before_it_in_its_document_alone() -> None:
    """Two documents in one sequence with padding after them are two sequences."""
    dictionary = make()
    assert isinstance(dictionary, Temporal)
    first, second, padding = sequences(5, 4, 3)
    segment = torch.tensor([[0] * 5 + [1] * 4 + [-1] * 3], dtype=torch.int32)
    together = dictionary.in_context(torch.cat([first, second, padding])[None], segment)[0]
    for document, rows in ((first, together[:5]), (second, together[5:9])):
        torch.testing.assert_close(rows, alone(dictionary, document))
        assert torch.equal(rows[:, :D], document)
        torch.testing.assert_close(rows[:, D:], plainly(dictionary, document), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(together[5:9], alone(dictionary, torch.cat([first, second]))[5:])
    torch.testing.assert_close(together[5:6], alone(dictionary, second[:1])), "the first sees nothing"


def test_later_tokens_and_those_that_are_not_finite_change_nothing() -> None:
    dictionary = make()
    (x,) = sequences(6)
    rows = alone(dictionary, x)
    torch.testing.assert_close(alone(dictionary, x[:4]), rows[:4])
    damaged = x.clone()
    damaged[2, 0] = float("nan")
    with_damage = alone(dictionary, damaged)
    assert bool(with_damage[[0, 1, 3, 4, 5]].isfinite().all())
    torch.testing.assert_close(with_damage[:2], rows[:2])
    assert not bool(with_damage[2].isfinite().all()), "it stays what it is, for the reader to leave out"


def test_sequences_may_be_worked_on_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    dictionary, x = make(), torch.stack(sequences(4, 4, 4))
    segment = torch.zeros(3, 4, dtype=torch.int32)
    whole = dictionary.in_context(x, segment)
    monkeypatch.setattr("tasks.dictionaries.architectures.temporal._NUMBERS_AT_ONCE", 1)
    torch.testing.assert_close(dictionary.in_context(x, segment), whole)


class Packed:
    """An activation set in memory: two sequences of two documents and padding, a BOS that does not count."""

    d_in, context_length, hookpoint, meta = D, 12, "blocks.0.resid_post", {"model_id": "m"}

    def __init__(self) -> None:
        segment = np.repeat([[0] * 5 + [1] * 4 + [-1] * 3], 2, axis=0).astype(np.int32)
        valid = segment >= 0
        valid[:, [0, 5]] = False
        ids = np.arange(24).reshape(2, 12)
        self.tokens = SimpleNamespace(segment=segment, valid=valid, token_ids=ids, document_index=segment)
        self.values = torch.stack(sequences(12, 12)).numpy().astype(np.float16)

    def sequence_rows(self, split: str) -> Any:
        return np.array([0]) if split == "train" else np.array([1])

    def read(self, rows: Any) -> Any:
        return self.values[rows]


def test_activations_are_read_in_context() -> None:
    """Valid tokens alone are rows, but tokens that do not count are seen by those after them."""
    dictionary, packed = make(), Packed()
    activations = HookpointActivations.of(packed)
    seen = activations.as_read_by(dictionary)
    assert (seen.inputs.d_in, seen.widths, seen.inputs.hookpoint) == (
        2 * D,
        activations.widths,
        packed.hookpoint,
    )
    rows_NW = read_valid(seen.inputs, np.array([0, 1]))
    expected = []
    for x in torch.from_numpy(packed.values).float():
        expected += [alone(dictionary, x[:5])[1:], alone(dictionary, x[5:9])[1:]]
    torch.testing.assert_close(rows_NW, torch.cat(expected))
    x_NW, y_ND = seen.split(rows_NW)
    assert x_NW is rows_NW
    assert torch.equal(y_ND, read_valid(packed, np.array([0, 1])).float())
    plain = build_dictionary(
        dictionary_config({"architecture": "topk", "k": 2, "d_sae": 8, "n_tokens": 1}), D
    )
    assert activations.as_read_by(plain) is activations


def test_it_is_imported_and_not_trained(activation_set: ActivationSet, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="temporal dictionaries are imported, not trained"):
        TypeAdapter(AnyDictionaryConfig).validate_python(CONFIG)
    with pytest.raises(UserError, match="temporal dictionaries are imported, not trained"):
        train(dictionary_config(CONFIG), activation_set, tmp_path, device="cpu")
    with pytest.raises(UserError, match="a multiple of n_heads x bottleneck_factor = 2 x 5"):
        make(bottleneck_factor=5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n_heads": 5}, "24 latents are not a multiple of n_heads 5 times bottleneck_factor 4"),
        ({"n_heads": 0}, "n_heads is 0, not a positive whole number"),
        ({"n_attn_layers": 2}, "attn_layers.1.k_ctx.weight is missing"),
        ({"bottleneck_factor": 6}, r"k_ctx.weight has the shape \(6, 24\), not \(4, 24\)"),
        ({"kval_topk": 25}, "needs k between 1 and 24"),
        ({"normalize_activations": "tanh"}, "cannot read normalize_activations 'tanh'"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    config = json.loads((GOLDEN / "temporal-topk" / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps({**config, **changes}))
    weights = load_file(GOLDEN / "temporal-topk" / "sae_weights.safetensors")
    save_file(weights, tmp_path / "sae_weights.safetensors")
    with pytest.raises(UserError, match=reason):
        read_foreign("saelens", tmp_path)


@pytest.mark.parametrize(
    ("conf", "reason"),
    [
        ("sae: [", "conf.yaml is not valid YAML"),
        ("llm: {dimin: 8}", "conf.yaml has no section sae"),
        (
            "sae: {n_heads: 2, bottleneck_factor: 4, kval_topk: 3, tied_weights: false}",
            "factor of its inputs is None",
        ),
        ("sae: !!python/object/apply:os.getcwd []", "conf.yaml is not valid YAML"),
    ],
)
def test_a_published_configuration_that_says_too_little_is_refused(
    conf: str, reason: str, tmp_path: Path
) -> None:
    shutil.copy(GOLDEN / "layer_2-temporal" / "latest_ckpt.safetensors", tmp_path)
    (tmp_path / "conf.yaml").write_text(conf)
    with pytest.raises(UserError, match=reason):
        read_foreign("saelens", tmp_path)


def test_attention_that_is_no_number_or_too_much_is_refused(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "temporal-topk", tmp_path, dirs_exist_ok=True)
    weights, path = (
        load_file(GOLDEN / "temporal-topk" / "sae_weights.safetensors"),
        tmp_path / "sae_weights.safetensors",
    )
    broken = weights["attn_layers.0.c_proj.bias"] / 0
    save_file({**weights, "attn_layers.0.c_proj.bias": broken}, path)
    with pytest.raises(UserError, match=r"attn_layers.0.c_proj.bias has values that are NaN"):
        read_foreign("saelens", tmp_path)
    save_file({**weights, "attn_layers.1.c_proj.bias": broken}, path)
    with pytest.raises(UserError, match=r"attn_layers.1.c_proj.bias belongs to none of the 1 layers"):
        read_foreign("saelens", tmp_path)


def test_the_digest_tells_attention_apart() -> None:
    foreign = read_foreign("saelens", GOLDEN / "temporal-topk")
    assert foreign.attention is not None
    tensors = {name: -tensor for name, tensor in foreign.attention.tensors.items()}
    other = foreign.with_(attention=replace(foreign.attention, tensors=tensors))
    plain = foreign.with_(attention=None)
    assert len({foreign_digest(each) for each in (foreign, other, plain)}) == 3
