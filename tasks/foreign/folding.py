"""Folds conventions of other tools into weights: the same codes and outputs from our kind of dictionary.

Legend: D d_in, E d_out, L d_sae. Activations stay exactly those of the foreign tool:

- activations times the norm n of their direction: ``W_enc n``, ``b_enc n``, ``W_dec / n``
- inputs that had the factor s in training: ``W_enc s``, ``W_dec / s``, ``b_dec / s``; for a crosscoder a
factor
  per hookpoint, which is also the unit in which the norms of its directions are comparable
- no b_dec subtracted from the input: ``b_enc + b_dec W_enc`` (and the same times exp(r_mag) for magnitudes)
- inputs whitened in training, ``(x - m) M``: ``M W_enc``, ``W_dec M^-1``, ``b_dec M^-1 + m``
- the k largest values of either sign: a second copy of each latent with encoder, bias and direction negated
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.foreign.record import Foreign

_SMALLEST_NORM = 1e-12


class Whitening(NamedTuple):
    """The whitening of inputs, ``z = (x - mean) matrix``, and its inverse for outputs."""

    mean_D: Tensor
    matrix_DD: Tensor
    inverse_DD: Tensor


def fold_decoder_norms(foreign: Foreign) -> Foreign:
    """``by_decoder_norm`` folded: directions of unit norm, the same activations and output."""
    if not foreign.by_decoder_norm:
        return foreign
    norm_L = foreign.W_dec.norm(dim=1).clamp_min(_SMALLEST_NORM)
    return foreign.with_(
        W_enc=foreign.W_enc * norm_L,
        b_enc=foreign.b_enc * norm_L,
        W_dec=foreign.W_dec / norm_L.unsqueeze(1),
        by_decoder_norm=False,
    )


def fold_input_scale(foreign: Foreign) -> Foreign:
    """``scale`` folded: the result reads and writes activations of the model. Call it once.

    ``site_scales`` of a crosscoder are kept: norms of its directions count in their units.
    """
    if foreign.kind == "crosscoder":
        scales = foreign.site_scales or (foreign.scale,) * foreign.n_hookpoints
        scale_D = torch.tensor(scales).repeat_interleave(foreign.d_in // foreign.n_hookpoints)
        return foreign.with_(
            W_enc=foreign.W_enc * scale_D.unsqueeze(1),
            W_dec=foreign.W_dec / scale_D,
            b_dec=foreign.b_dec / scale_D,
            scale=1.0,
            site_scales=scales,
        )
    if foreign.scale == 1.0:
        return foreign
    attention = foreign.attention
    if attention is not None:
        attention = replace(attention, epsilon=attention.epsilon / foreign.scale)
    return foreign.with_(
        attention=attention,
        W_enc=foreign.W_enc * foreign.scale,
        W_dec=foreign.W_dec / foreign.scale,
        b_dec=foreign.b_dec / foreign.scale,
        residual_threshold=foreign.residual_threshold / foreign.scale,
        scale=1.0,
    )


def fold_centre(foreign: Foreign) -> Foreign:
    """An autoencoder that subtracts nothing from its input, as one that subtracts ``b_dec``."""
    if foreign.kind != "autoencoder" or foreign.centred or foreign.attention is not None:
        return foreign
    if foreign.activation == "matching_pursuit":
        return foreign.with_(b_dec=torch.zeros_like(foreign.b_dec), centred=True)
    shift_L = (foreign.b_dec.double() @ foreign.W_enc.double()).float()
    changes: dict[str, Tensor] = {"b_enc": foreign.b_enc + shift_L}
    if foreign.b_mag is not None and foreign.r_mag is not None:
        changes["b_mag"] = foreign.b_mag + shift_L * foreign.r_mag.exp()
    return foreign.with_(centred=True, **changes)


def fold_whitening(foreign: Foreign, whitening: Whitening) -> Foreign:
    """An autoencoder of whitened activations as one of the activations themselves.

    Norms of directions count as they are before whitening is folded in, so those are folded first.

    Raises:
        UserError: where it cannot be folded in, or the matrices do not have the width of the inputs.
    """
    is_plain = foreign.activation != "matching_pursuit" and foreign.attention is None
    if foreign.kind != "autoencoder" or not is_plain:
        raise UserError(
            f"{foreign.source}: whitening cannot be folded into a {foreign.activation} {foreign.kind}"
        )
    d = foreign.d_in
    for name, shape in (("mean_D", (d,)), ("matrix_DD", (d, d)), ("inverse_DD", (d, d))):
        found = tuple(getattr(whitening, name).shape)
        if found != shape:
            raise UserError(f"{foreign.source}: its whitening has an array of {found} in place of {shape}")
    foreign = fold_centre(fold_decoder_norms(foreign))
    mean_D, matrix_DD, inverse_DD = (tensor.double() for tensor in whitening)
    return foreign.with_(
        W_enc=(matrix_DD @ foreign.W_enc.double()).float(),
        W_dec=(foreign.W_dec.double() @ inverse_DD).float(),
        b_dec=(foreign.b_dec.double() @ inverse_DD + mean_D).float(),
    )


def unfold_signs(foreign: Foreign) -> Foreign:
    """A signed TopK of L latents as a plain one of 2 L: latent L + i is the other side of latent i.

    Of ``[z, -z]`` the k largest are the z with the largest magnitude, each on the side of its sign.
    """
    if foreign.activation != "abs_topk":
        return foreign
    return foreign.with_(
        activation="topk",
        W_enc=torch.cat([foreign.W_enc, -foreign.W_enc], dim=1),
        b_enc=torch.cat([foreign.b_enc, -foreign.b_enc]),
        W_dec=torch.cat([foreign.W_dec, -foreign.W_dec]),
    )
