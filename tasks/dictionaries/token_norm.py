"""Normalisation of each token, which some published dictionaries expect of their inputs.

Legend: N tokens, D d_in, E d_out. It cannot be folded into weights, so it is part of a dictionary.

- ``layer_norm``: (x - mean_D x) / (std_D x + 1e-5) with the unbiased standard deviation (Gao et al. 2024,
  arXiv 2406.04093, code); the output is multiplied by std and the mean is added.
- ``constant_norm``: x sqrt(D) / |x| (SAELens: constant_norm_rescale); the output is multiplied by
  |x| / sqrt(D).
"""

from typing import Literal

import torch
from torch import Tensor

TokenNorm = Literal["none", "layer_norm", "constant_norm"]
_EPSILON = 1e-5
_SMALLEST_NORM = 1e-12


def normalise_tokens(x_ND: Tensor, norm: TokenNorm) -> Tensor:
    """The input of the encoder for each token: (N, D)."""
    if norm == "none":
        return x_ND
    if norm == "layer_norm":
        scale_N1, shift_N1 = _statistics(x_ND, norm)
        return (x_ND - shift_N1) / (scale_N1 + _EPSILON)
    return x_ND / _statistics(x_ND, norm)[0]


def restore_tokens(out_NE: Tensor, x_ND: Tensor, norm: TokenNorm) -> Tensor:
    """An output in normalised units, converted to the units of the tokens ``x_ND``: (N, E)."""
    if norm == "none":
        return out_NE
    scale_N1, shift_N1 = _statistics(x_ND, norm)
    return torch.addcmul(shift_N1, out_NE, scale_N1)


def _statistics(x_ND: Tensor, norm: TokenNorm) -> tuple[Tensor, Tensor]:
    """Scale and shift of each token, both (N, 1)."""
    if norm == "layer_norm":
        return x_ND.std(dim=1, keepdim=True), x_ND.mean(dim=1, keepdim=True)
    norm_N1 = x_ND.norm(dim=1, keepdim=True).clamp_min(_SMALLEST_NORM)
    return norm_N1 / x_ND.shape[1] ** 0.5, torch.zeros_like(norm_N1)
