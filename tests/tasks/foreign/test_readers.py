"""Every reader against the tool it reads: the same codes and the same outputs to 1e-5.

The golden folders were written by the tools themselves, or used by them in the form in which others publish
(``tests/golden/formats/write_peers.py``, ``write_published.py``). The code of openai and of the crosscoders
is on no package index: theirs come from a short transcript of it, and ``test_published_rules`` is beside it.
"""

import json
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from catalog.errors import UserError
from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.weights import load_dictionary, save_dictionary
from tasks.foreign.assembly import assemble
from tasks.foreign.format import FORMATS, read_foreign
from tasks.foreign.record import Foreign

GOLDEN = Path(__file__).parents[2] / "golden" / "formats"
CASES = sorted(str(path.parent.relative_to(GOLDEN)) for path in GOLDEN.glob("*/*/expected.safetensors"))
OPENED_BY_THE_CHILD = ("dictionary_learning/batch-topk", "openai/topk")
D, L, N = 8, 20, 16


@cache
def read(case: str) -> Foreign:
    """A golden case; pickled ones are converted here, but for two that the child process opens."""
    name, pickled = case.split("/")[0], next((GOLDEN / case).glob("*.pt"), None)
    if pickled is None or case in OPENED_BY_THE_CHILD:
        suffix = ".pt" if pickled else ".safetensors"
        return read_foreign(name, place(name, GOLDEN / case, suffix), allow_pickle=True)
    with tempfile.TemporaryDirectory() as copy:
        state = torch.load(pickled, weights_only=True)
        plain = {key: value.contiguous() for key, value in state.items() if isinstance(value, torch.Tensor)}
        save_file(plain, Path(copy) / f"{pickled.stem}.safetensors")
        for config in (GOLDEN / case).glob("*.json"):
            shutil.copy(config, copy)
        return read_foreign(name, place(name, Path(copy), ".safetensors"))


def place(name: str, folder: Path, suffix: str) -> Path:
    """What is named to the reader: a folder, or the file of weights where the tool knows files alone."""
    if name not in ("openai", "crosscoder"):
        return folder
    return next(file for file in folder.glob(f"*{suffix}") if file.stem != "expected")


def assert_same(dictionary: Dictionary, x: torch.Tensor, acts: torch.Tensor, out: torch.Tensor) -> None:
    if x.ndim == 3:  # sequences, for a dictionary that reads a token in its context
        x = dictionary.in_context(x, torch.zeros(x.shape[:2])).flatten(0, 1)
        acts, out = acts.flatten(0, 1), out.flatten(0, 1)
    torch.testing.assert_close(dictionary.encode(x), acts, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(dictionary(x), out, rtol=1e-5, atol=1e-5)
    codes = dictionary.encode_sparse(x)
    torch.testing.assert_close(dictionary.decode_sparse(*codes, x), out, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_codes_and_outputs_are_those_of_the_tool(case: str, tmp_path: Path) -> None:
    expected = load_file(GOLDEN / case / "expected.safetensors")
    assert bool((expected["acts"] > 0).any())
    if bool((expected["acts"] < 0).any()):  # signed: of ours each side of a latent is one of its own
        expected["acts"] = torch.cat([expected["acts"].relu(), (-expected["acts"]).relu()], dim=1)
    foreign = read(case)
    dictionary = assemble(placed(foreign) if foreign.kind == "crosscoder" else foreign)
    assert_same(dictionary, expected["x"], expected["acts"], expected["out"])
    save_dictionary(dictionary, tmp_path)
    assert_same(load_dictionary(tmp_path), expected["x"], expected["acts"], expected["out"])


def test_both_sides_of_a_signed_latent_are_latents_and_said_to_be_so() -> None:
    foreign = read("saelens/abstopk")
    dictionary, n = assemble(foreign), foreign.d_sae
    assert (dictionary.d_sae, dictionary.config.canonical()["k"]) == (2 * n, foreign.k)
    assert torch.equal(dictionary.W_dec[n:], -dictionary.W_dec[:n])
    assert foreign.remarks == {"sides": "latent i + 24 is the negative side of latent i, for i from 0 to 23"}
    assert read("saelens/topk").remarks == {}


def test_every_format_that_a_tool_can_use_has_golden_folders() -> None:
    assert {case.split("/")[0] for case in CASES} == set(FORMATS)


@pytest.mark.parametrize(
    ("case", "reads", "writes"),
    [
        ("saelens/topk", "blocks.2.resid_post", "blocks.2.resid_post"),
        ("saelens/old-topk", "blocks.2.resid_post", "blocks.2.resid_post"),
        ("saelens/layer_2-temporal", "blocks.2.resid_post", "blocks.2.resid_post"),
        ("saelens/skip-transcoder", "blocks.1.mlp_in", "blocks.1.mlp_out"),
        ("sparsify/layers.2", "blocks.2.resid_post", "blocks.2.resid_post"),
        ("sparsify/layers.1.mlp", "blocks.1.mlp_in", "blocks.1.mlp_out"),
        ("dictionary_learning/jumprelu", "blocks.2.resid_post", "blocks.2.resid_post"),
        ("gemma_scope/2b-pt-res-layer_1-average_l0_3", "blocks.1.resid_post", "blocks.1.resid_post"),
        ("gemma_scope/2b-pt-res-embedding", "blocks.0.resid_pre", "blocks.0.resid_pre"),
        ("gemma_scope/2b-pt-transcoders-layer_1", "blocks.1.mlp_in", "blocks.1.mlp_out"),
        ("gemma_scope/second-attention", "blocks.2.attn_z", "blocks.2.attn_z"),
        ("gemma_scope/second-affine", "blocks.2.mlp_in", "blocks.2.mlp_out"),
    ],
)
def test_hookpoints_are_read_from_the_file(case: str, reads: str, writes: str) -> None:
    foreign = read(case)
    assert (foreign.reads, foreign.writes) == ((reads,), (writes,))
    if "average_l0_3" in case:
        assert foreign.k == 3


def random_weights(*names: str, **shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(3)
    known = {"W_enc": (D, L), "W_dec": (L, D), "b_enc": (L,), "b_dec": (D,), "threshold": (L,), **shapes}
    tensors = {name: torch.randn(known[name], generator=random) * 0.5 for name in names or known}
    return {name: t.abs() if name == "threshold" else t for name, t in tensors.items()}


def inputs(width: int = D) -> torch.Tensor:
    return torch.randn(N, width, generator=torch.Generator().manual_seed(4)) * 3 + 1


@pytest.mark.parametrize(
    ("place", "hookpoint"),
    [
        ("gemma-scope-9b-it-att/layer_9/width_16k/average_l0_50", "blocks.9.attn_z"),
        ("gemma-scope-2b-pt-mlp/layer_3/width_65k/average_l0_7", "blocks.3.mlp_out"),
        (
            "my-research/transcoders/gemma-scope-2b-pt-res/layer_3/width_16k",
            "blocks.3.resid_post",
        ),
        ("my-research/unnamed/layer_3", None),
    ],
)
def test_folders_of_gemma_scope_say_the_hookpoint(place: str, hookpoint: str | None, tmp_path: Path) -> None:
    folder = tmp_path / place
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", **{name: tensor.numpy() for name, tensor in random_weights().items()})
    foreign = read_foreign("gemma_scope", folder)
    assert (foreign.kind, foreign.reads) == ("autoencoder", () if hookpoint is None else (hookpoint,))


def test_what_gemma_scope_does_not_have_is_refused(tmp_path: Path) -> None:
    weights = {name: tensor.numpy() for name, tensor in random_weights().items()}
    np.savez(tmp_path / "params.npz", **weights, scaling_factor=np.full(L, 2.0))
    with pytest.raises(UserError, match="a scaling_factor other than 1"):
        read_foreign("gemma_scope", tmp_path)
    np.savez(tmp_path / "params.npz", **{**weights, "W_dec": np.zeros((L, 4, D), dtype=np.float32)})
    with pytest.raises(UserError, match="writes 4 layers: featlas reads transcoders of one layer"):
        read_foreign("gemma_scope", tmp_path)


def test_a_backup_of_dictionary_learning_is_in_the_units_of_its_training(tmp_path: Path) -> None:
    weights, x = random_weights(), inputs()
    state = {
        "encoder.weight": weights["W_enc"].T.contiguous(),
        "encoder.bias": weights["b_enc"],
        "decoder.weight": weights["W_dec"].T.contiguous(),
        "bias": weights["b_dec"],
    }
    torch.save({"step": 100, "ae": state, "norm_factor": 2.5, "config": {"lr": 0.1}}, tmp_path / "ae.pt")
    acts = ((x / 2.5 - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"]).relu()
    foreign = read_foreign("dictionary_learning", tmp_path, allow_pickle=True)
    assert_same(assemble(foreign), x, acts, 2.5 * (acts @ weights["W_dec"] + weights["b_dec"]))


def clt_folder(folder: Path, settings: dict[str, object], tensors: dict[str, torch.Tensor]) -> Path:
    """A folder of clt-training as its save_to_disk writes it."""
    known = {"activation": "topk", "k": 4, "num_latents": L, "d_in": D, "transcode": True, "n_targets": 1}
    folder.mkdir()
    (folder / "cfg.json").write_text(json.dumps({**known, "skip_connection": True, **settings}))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "sae.safetensors")
    return folder


def test_a_single_target_of_clt_training(tmp_path: Path) -> None:
    """TopK of rectified pre-activations of scaled inputs, a factor for each latent, a scaled output."""
    weights, x, factor_L = random_weights(), inputs(), torch.linspace(0.5, 2, L)
    W_skip = torch.randn(D, D, generator=torch.Generator().manual_seed(6))
    tensors = {
        "encoder.weight": weights["W_enc"].T,
        "encoder.bias": weights["b_enc"],
        "W_decs.0": weights["W_dec"],
        "b_decs.0": weights["b_dec"],
        "W_skips.0": W_skip,
        "post_encs.0": torch.zeros(L),
        "post_enc_scales.0": factor_L,
        "in_norm": torch.tensor([7.0]),
        "out_norm": torch.tensor([3.0]),
    }
    scaled = x * D**0.5 / 7
    pre = (scaled @ weights["W_enc"] + weights["b_enc"]).relu()
    top = pre.topk(4, dim=1)
    acts = torch.zeros_like(pre).scatter(1, top.indices, top.values)
    out = (acts * factor_L) @ weights["W_dec"] + weights["b_dec"] + scaled @ W_skip.T
    read_from = clt_folder(tmp_path / "layers.1.mlp", {"normalize_io": True}, tensors)
    assert_same(assemble(read_foreign("sparsify", read_from)), x, acts, out * 3 / D**0.5)
    for name, changes, more, reason in (
        ("a", {}, {"W_decs.1": 2 * weights["W_dec"]}, "belongs to a cross-layer transcoder"),
        ("b", {"coalesce_topk": "concat"}, {}, "belongs to a cross-layer transcoder"),
        ("c", {}, {"post_encs.0": torch.ones(L)}, "adds an offset to the latents it has selected"),
    ):
        with pytest.raises(UserError, match=reason):
            read_foreign("sparsify", clt_folder(tmp_path / name, changes, {**tensors, **more}))


def crosscoder_weights(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    tensors = random_weights(W_enc=(n, D, L), W_dec=(n, L, D), b_enc=(L,), b_dec=(n, D))
    return tensors["W_enc"], tensors["W_dec"], tensors["b_enc"], tensors["b_dec"]


def placed(foreign: Foreign) -> Foreign:
    return foreign.with_(reads=("blocks.1.resid_post", "blocks.2.resid_post"))


def fork_state(**more: torch.Tensor) -> dict[str, torch.Tensor]:
    W_enc, W_dec, b_enc, b_dec = crosscoder_weights(2)
    parts = {"encoder.weight": W_enc, "encoder.bias": b_enc, "decoder.weight": W_dec, "decoder.bias": b_dec}
    return {**parts, **more}


def test_older_crosscoders_divide_by_the_deviation(tmp_path: Path) -> None:
    """Before ``activation_global_scale``: inputs ``(x - mean) / std``; here saved by a compiled training."""
    W_enc, W_dec, b_enc, b_dec = crosscoder_weights(2)
    x, mean, std = inputs(2 * D).reshape(N, 2, D), torch.rand(2, D), torch.rand(2, D) + 0.5
    state = {f"_orig_mod.{name}": tensor for name, tensor in fork_state().items()}
    save_file({**state, "activation_mean": mean, "activation_std": std}, tmp_path / "model.safetensors")
    acts = (torch.einsum("nsd,sdf->nf", (x - mean) / (std + 1e-8), W_enc) + b_enc).relu()
    out = (torch.einsum("nf,sfd->nsd", acts, W_dec) + b_dec) * (std + 1e-8) + mean
    foreign = read_foreign("crosscoder", tmp_path / "model.safetensors")
    assert_same(assemble(placed(foreign)), x.reshape(N, -1), acts, out.reshape(N, -1))


def test_crosscoders_that_ours_cannot_express_are_refused(tmp_path: Path) -> None:
    path, k = tmp_path / "model.safetensors", {"k": torch.tensor(3), "threshold": torch.tensor(6.0)}
    save_file(fork_state(**k, code_normalization_id=torch.tensor(2)), path)
    with pytest.raises(UserError, match="for activations normalised as SAE; featlas reads"):
        read_foreign("crosscoder", path)
    statistics = {"activation_mean": torch.ones(2, D), "activation_std": torch.ones(2, D)}
    save_file(fork_state(**k, **statistics), path)
    with pytest.raises(UserError, match="cannot read a BatchTopK crosscoder of normalised activations"):
        read_foreign("crosscoder", path)
    save_file(fork_state(code_normalization_id=torch.tensor(5)), path)
    with pytest.raises(UserError, match="needs to know its hookpoints"):
        assemble(read_foreign("crosscoder", path))


def test_the_replication_says_its_hookpoint() -> None:
    foreign = read("crosscoder/replication")
    assert (foreign.reads, foreign.n_hookpoints) == (("blocks.2.resid_pre",), 2)
    assert foreign.described["dict_size"] == foreign.d_sae
