"""Converts what EleutherAI/clt-training adds to folders of sparsify back to the format of sparsify.

Parts of several targets have numbers (``W_decs.0``); latents may have an offset and a factor after they
were selected (``post_enc``, ``post_enc_scale``); inputs and outputs may be scaled by their mean norms
(``in_norm``, ``out_norm``). One target that no other layer writes to is a transcoder like others.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.foreign.record import Foreign

_OF_FIRST_TARGET = {
    "W_decs.0": "W_dec",
    "b_decs.0": "b_dec",
    "W_skips.0": "W_skip",
    "post_encs.0": "post_enc",
    "post_enc_scales.0": "post_enc_scale",
}


def of_one_target(source: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names of sparsify, the factor after the selection folded into ``W_dec``.

    Raises:
        UserError: for several targets, several sources, or an offset after the selection.
    """
    named = {_OF_FIRST_TARGET.get(name, name): tensor for name, tensor in tensors.items()}
    is_combined = config.get("coalesce_topk", "none") != "none" or int(config.get("n_sources") or 0) > 1
    if is_combined or "W_decs.1" in named or "b_decs.1" in named:
        raise UserError(
            f"{source} belongs to a cross-layer transcoder: featlas reads coders of one layer each"
        )
    offset_L, factor_L = named.pop("post_enc", None), named.pop("post_enc_scale", None)
    if offset_L is not None and bool((offset_L != 0).any()):
        raise UserError(
            f"{source} adds an offset to the latents it has selected (post_enc), which featlas cannot express"
        )
    if factor_L is not None and "W_dec" in named:
        named["W_dec"] = named["W_dec"] * factor_L.unsqueeze(1)
    return named


def without_norms(foreign: Foreign, tensors: Mapping[str, Tensor]) -> Foreign:
    """Fold ``x sqrt(D) / in_norm`` and ``y out_norm / sqrt(E)`` into the weights."""
    if "in_norm" not in tensors or "out_norm" not in tensors:
        return foreign
    scale_in = foreign.d_in**0.5 / float(tensors["in_norm"])
    scale_out = float(tensors["out_norm"]) / foreign.d_out**0.5
    b_enc, W_skip = foreign.b_enc, foreign.W_skip
    if foreign.centred:
        b_enc = b_enc - (foreign.b_dec.double() @ foreign.W_enc.double()).to(torch.float32)
    return foreign.with_(
        W_enc=foreign.W_enc * scale_in,
        b_enc=b_enc,
        W_dec=foreign.W_dec * scale_out,
        b_dec=foreign.b_dec * scale_out,
        W_skip=None if W_skip is None else W_skip * (scale_in * scale_out),
        centred=False,
    )
