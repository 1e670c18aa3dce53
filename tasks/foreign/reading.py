"""Settings under which a foreign file is read differently from what it states, and the effect of each.

The import gate tries them one by one; a user passes the one that the gate found to fit.
"""

from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from catalog.errors import UserError
from tasks.common.config import StrictConfig
from tasks.foreign.record import PER_TOKEN, Foreign

Normalisation = Literal[
    "file", "none", "dataset_rms", "unit_rms", "layer_norm", "constant_norm", "before_gain"
]
Centre = Literal["file", "b_dec", "none"]
DecoderForm = Literal["file", "transposed", "unit_norm", "folded"]
MatrixForm = Literal["file", "transposed"]
ActivationForm = Literal["file", "relu", "topk", "threshold"]
_SMALLEST_NORM = 1e-12


class ReadingConfig(StrictConfig):
    """How a file is read; ``file`` means as the file states."""

    activation: ActivationForm = "file"
    """relu, topk (needs k) or threshold (needs threshold) in place of what the file states."""
    k: int | None = Field(default=None, ge=1)
    """Latents per token, if the file does not state them or states them wrongly."""
    threshold: float | None = Field(default=None, ge=0)
    """One threshold for all latents."""
    normalisation: Normalisation = "file"
    """What its inputs had in training: a mean norm of sqrt(d) (dataset_rms), a mean square norm of 1
    (unit_rms), each hookpoint of a crosscoder by itself; each token normalised by itself (layer_norm,
    constant_norm), or taken from the norm before the MLP without its gain and bias (before_gain, what
    TransformerLens calls hook_normalized)."""
    centre: Centre = "file"
    """Whether b_dec is taken from the input before the encoder."""
    encoder: MatrixForm = "file"
    """transposed if W_enc is transposed in the file."""
    decoder: DecoderForm = "file"
    """transposed if W_dec is transposed in the file, unit_norm if its rows are normalised at use, folded to
    scale rows to unit norm without changing the output: activations are multiplied by the norms."""
    skip: MatrixForm = "file"
    """transposed if W_skip of a transcoder is transposed in the file."""


class Inputs(NamedTuple):
    """What a reading may use of the activations that a dictionary reads."""

    sample_ND: Tensor
    gain_D: Tensor | None = None
    """Gain of the norm whose output they are; None if they are not such an output."""
    shift_D: Tensor | None = None
    """Bias of that norm."""


def first_reading(foreign: Foreign, reading: ReadingConfig) -> Foreign:
    """Apply what needs no activations: everything but the normalisation by their norm."""
    if reading.encoder == "transposed":
        foreign = foreign.with_(W_enc=foreign.W_enc.T.contiguous())
    if reading.decoder == "transposed":
        foreign = foreign.with_(W_dec=foreign.W_dec.T.contiguous())
    elif reading.decoder == "unit_norm":
        norm_L1 = foreign.W_dec.norm(dim=1, keepdim=True).clamp_min(_SMALLEST_NORM)
        foreign = foreign.with_(W_dec=foreign.W_dec / norm_L1)
    elif reading.decoder == "folded":
        foreign = fold_norms(foreign)
    if reading.skip == "transposed" and foreign.W_skip is not None:
        foreign = foreign.with_(W_skip=foreign.W_skip.T.contiguous())
    if reading.centre != "file":
        foreign = foreign.with_(centred=reading.centre == "b_dec")
    if reading.normalisation in ("layer_norm", "constant_norm"):
        foreign = foreign.with_(scale=1.0, token_norm=reading.normalisation)
    return _with_activation(foreign, reading)


def fold_norms(foreign: Foreign) -> Foreign:
    """Directions of unit norm, activations and thresholds times the norms: the same output.

    Raises:
        UserError: where the choice of latents would change.
    """
    if foreign.attention is not None:
        raise UserError(f"{foreign.source}: attention reads codes as they are: leave decoder=folded out")
    norm_L = foreign.W_dec.norm(dim=1).clamp_min(_SMALLEST_NORM)
    if foreign.activation in PER_TOKEN or foreign.kind == "crosscoder":
        raise UserError(
            f"{foreign.source}: folding norms would change which latents a {foreign.activation} "
            f"{foreign.kind} chooses: leave decoder=folded out"
        )
    changes: dict[str, Any] = {"W_enc": foreign.W_enc * norm_L, "b_enc": foreign.b_enc * norm_L}
    if foreign.threshold is not None:
        changes |= {"threshold": foreign.threshold * norm_L, "activation": "jumprelu"}
    if foreign.b_mag is not None:
        changes["b_mag"] = foreign.b_mag * norm_L
    return foreign.with_(W_dec=foreign.W_dec / norm_L.unsqueeze(1), **changes)


def with_norms(foreign: Foreign, reading: ReadingConfig, inputs: Inputs) -> Foreign:
    """Apply the normalisation that depends on the activations or on the model.

    Raises:
        UserError: for ``before_gain`` where the inputs are not what a norm gives.
    """
    if reading.normalisation == "before_gain":
        if inputs.gain_D is None or inputs.shift_D is None or foreign.kind != "transcoder":
            raise UserError(
                f"{foreign.source}: normalisation=before_gain is for transcoders of mlp_in after a norm"
            )
        return before_gain(foreign, inputs.gain_D, inputs.shift_D)
    if reading.normalisation == "none":
        return foreign.with_(scale=1.0, site_scales=(), token_norm="none")
    if reading.normalisation not in ("dataset_rms", "unit_rms"):
        return foreign
    parts_ND = torch.chunk(inputs.sample_ND, foreign.n_hookpoints, dim=1)
    scales = tuple(_scale(x_ND, reading.normalisation) for x_ND in parts_ND)
    if foreign.kind == "crosscoder":
        return foreign.with_(scale=1.0, site_scales=scales, token_norm="none")
    return foreign.with_(scale=scales[0], token_norm="none")


def _scale(x_ND: Tensor, normalisation: Normalisation) -> float:
    """The factor that brings activations to a mean norm of sqrt(d), or to a mean square norm of 1."""
    if normalisation == "dataset_rms":
        return float(x_ND.shape[1] ** 0.5 / x_ND.norm(dim=1).double().mean().clamp_min(_SMALLEST_NORM))
    return float(x_ND.double().square().sum(dim=1).mean().clamp_min(_SMALLEST_NORM) ** -0.5)


def before_gain(foreign: Foreign, gain_D: Tensor, shift_D: Tensor) -> Foreign:
    """A transcoder of ``(x - shift) / gain`` as one of ``x``: both are folded into weights and biases."""
    offset_D = shift_D / gain_D
    changes = {
        "W_enc": foreign.W_enc / gain_D.unsqueeze(1),
        "b_enc": foreign.b_enc - offset_D @ foreign.W_enc,
    }
    if foreign.W_skip is not None:
        changes["W_skip"] = foreign.W_skip / gain_D.unsqueeze(1)
        changes["b_dec"] = foreign.b_dec - offset_D @ foreign.W_skip
    return foreign.with_(**changes)


def _with_activation(foreign: Foreign, reading: ReadingConfig) -> Foreign:
    if reading.k is not None:
        foreign = foreign.with_(k=reading.k)
    if reading.threshold is not None:
        foreign = foreign.with_(threshold=torch.tensor(reading.threshold))
    if reading.activation == "relu":
        return foreign.with_(activation="relu", threshold=None, r_mag=None, b_mag=None)
    if reading.activation == "topk":
        if foreign.k is None:
            raise UserError(f"{foreign.source}: activation=topk needs the number of latents: add --set k=...")
        return foreign.with_(activation="topk", threshold=None, r_mag=None, b_mag=None)
    if reading.activation == "threshold" or (reading.threshold is not None and foreign.activation == "relu"):
        if foreign.threshold is None:
            raise UserError(f"{foreign.source}: activation=threshold needs one: add --set threshold=...")
        return foreign.with_(activation="jumprelu", r_mag=None, b_mag=None)
    return foreign
