"""Formats whose code is on no package index, against their published rule written down once more.

Their golden folders come from code that was typed off the published sources, not from an installed package.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tasks.dictionaries.base import Dictionary
from tasks.foreign.assembly import assemble
from tasks.foreign.format import read_foreign

D, L, N = 8, 20, 16


def drawn(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.5


def assert_same(dictionary: Dictionary, x: Tensor, acts: Tensor, out: Tensor) -> None:
    assert bool((acts > 0).any())
    torch.testing.assert_close(dictionary.encode(x), acts, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(dictionary(x), out, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", ["TopK", "ReLU"])
def test_openai(activation: str, tmp_path: Path) -> None:
    """``pre_bias`` taken from the input; TopK on inputs normalised with the unbiased deviation."""
    pre_bias, encoder_LD = drawn(D), drawn(L, D, seed=4)
    latent_bias, decoder_DL = drawn(L, seed=5), drawn(D, L, seed=6)
    x = drawn(N, D, seed=7) * 6 + 1
    state: dict[str, Any] = {
        "pre_bias": pre_bias,
        "encoder.weight": encoder_LD,
        "latent_bias": latent_bias,
        "decoder.weight": decoder_DL,
        "stats_last_nonzero": torch.zeros(L, dtype=torch.long),
        "activation": activation,
    }
    if activation == "TopK":
        state["activation_state_dict"] = {"k": 4, "postact_fn": "ReLU"}
    torch.save(state, tmp_path / "v5_32k.pt")
    mean, std = x.mean(dim=1, keepdim=True), x.std(dim=1, keepdim=True)
    normed = (x - mean) / (std + 1e-5) if activation == "TopK" else x
    pre = (normed - pre_bias) @ encoder_LD.T + latent_bias
    top = pre.topk(4, dim=1)
    kept = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
    acts = kept if activation == "TopK" else pre.relu()
    out = acts @ decoder_DL.T + pre_bias
    out = out * std + mean if activation == "TopK" else out
    foreign = read_foreign("openai", tmp_path / "v5_32k.pt", allow_pickle=True)
    assert_same(assemble(foreign), x, acts, out)


def test_crosscoders_of_the_replication(tmp_path: Path) -> None:
    """Codes from the sum over hookpoints, each decoded by itself."""
    W_enc, W_dec = drawn(2, D, L), drawn(L, 2, D, seed=4)
    b_enc, b_dec = drawn(L, seed=5), drawn(2, D, seed=6)
    x = drawn(N, 2, D, seed=7) * 6 + 1
    state = {"W_enc": W_enc, "W_dec": W_dec, "b_enc": b_enc, "b_dec": b_dec}
    torch.save(state, tmp_path / "7.pt")
    (tmp_path / "7_cfg.json").write_text('{"dict_size": 20}')
    acts = (torch.einsum("nsd,sdf->nf", x, W_enc) + b_enc).relu()
    out = torch.einsum("nf,fsd->nsd", acts, W_dec) + b_dec
    foreign = read_foreign("crosscoder", tmp_path / "7.pt", allow_pickle=True)
    placed = foreign.with_(reads=("blocks.1.resid_post", "blocks.2.resid_post"))
    assert_same(assemble(placed), x.flatten(1), acts, out.flatten(1))


def test_crosscoders_of_the_fork(tmp_path: Path) -> None:
    """BatchTopK keeps latents whose product with the summed norms of their directions is large."""
    W_enc, W_dec = drawn(2, D, L), drawn(2, L, D, seed=4)
    b_enc, b_dec = drawn(L, seed=5), drawn(2, D, seed=6)
    x = drawn(N, 2, D, seed=7) * 6 + 1
    state = {"encoder.weight": W_enc, "encoder.bias": b_enc, "decoder.weight": W_dec, "decoder.bias": b_dec}
    state |= {"k": torch.tensor(3), "threshold": torch.tensor(6.0)}
    torch.save(state, tmp_path / "model.pt")
    acts = (torch.einsum("nsd,sdf->nf", x, W_enc) + b_enc).relu()
    kept = acts * W_dec.norm(dim=2).sum(dim=0) > 6.0
    assert int(kept.sum()) < int((acts > 0).sum())
    acts = acts * kept
    out = torch.einsum("nf,sfd->nsd", acts, W_dec) + b_dec
    foreign = read_foreign("crosscoder", tmp_path / "model.pt", allow_pickle=True)
    placed = foreign.with_(reads=("blocks.1.resid_post", "blocks.2.resid_post"))
    assert_same(assemble(placed), x.flatten(1), acts, out.flatten(1))
