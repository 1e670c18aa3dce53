"""Constants of the data that a training needs: mean norm, scale, variance and the first b_dec.

Legend: N tokens, W width of all hookpoints together, E d_out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.dictionaries.gradient_config import BiasStart, Normalisation

SAMPLE_TOKENS = 131_072
"""Tokens for means, norms and the geometric median; of a norm that varies by its own size, the mean is
known to 0.3 %."""
_BLOCK_TOKENS = 4_096


@dataclass(frozen=True)
class Calibration:
    """Constants in the units in which the dictionary trains (activations times their ``scales``)."""

    scales: tuple[float, ...]
    """Factor on the activations of each hookpoint; folded into the weights when the training ends."""
    mean_norm: float
    """Mean Euclidean norm of a scaled input."""
    target_norm: float
    """Mean Euclidean norm of a scaled target."""
    total_variance: float
    """Mean over tokens of the squared distance to the mean, scaled targets."""
    bias: Tensor
    """Initial value of b_dec: (E,)."""
    input_mean: Tensor
    """Mean of the scaled inputs: (D,)."""


def calibrate(
    values_NW: Tensor,
    normalisation: Normalisation,
    bias_start: BiasStart,
    hookpoint_widths: Sequence[int],
    n_reads: int | None = None,
) -> Calibration:
    """Estimate the constants from a sample of train tokens (float32).

    ``dataset_rms``: the scale of each hookpoint is sqrt(d) / mean_N |x|, so that its activations have a
    mean norm of sqrt(d), d being its width.

    Args:
        values_NW: Activations of all hookpoints, concatenated; they are scaled in place.
        normalisation: Whether they are scaled.
        bias_start: How b_dec starts.
        hookpoint_widths: Width of each hookpoint.
        n_reads: How many of them are read, the rest being written; None if the input is reconstructed.

    Raises:
        UserError: when the activations of a hookpoint are all equal, or all zero.
    """
    widths = list(hookpoint_widths)
    scales = tuple(
        _scale(hookpoint_ND, normalisation) for hookpoint_ND in torch.split(values_NW, widths, dim=1)
    )
    for hookpoint_ND, scale in zip(torch.split(values_NW, widths, dim=1), scales, strict=True):
        hookpoint_ND.mul_(scale)
    d_in = sum(widths[:n_reads])
    x_ND, y_NE = values_NW[:, :d_in], values_NW if n_reads is None else values_NW[:, d_in:]
    mean_E = _mean(y_NE)
    if bias_start == "geometric_median":
        bias_E = geometric_median(y_NE)
    else:
        bias_E = mean_E.float() if bias_start == "mean" else torch.zeros(y_NE.shape[1])
    norms = _mean_norm(x_ND), _mean_norm(y_NE)
    return Calibration(scales, *norms, _variance(y_NE, mean_E), bias_E, _mean(x_ND).float())


def _scale(x_ND: Tensor, normalisation: Normalisation) -> float:
    norm = _mean_norm(x_ND)
    if norm == 0 or _variance(x_ND, _mean(x_ND)) <= 1e-12 * norm**2:
        raise UserError("all activations are equal: a dictionary has nothing to learn from them")
    return float(x_ND.shape[1] ** 0.5 / norm) if normalisation == "dataset_rms" else 1.0


def _mean(x_ND: Tensor) -> Tensor:
    """Mean over tokens: (D,) float64."""
    return torch.stack([block_BD.sum(dim=0, dtype=torch.float64) for block_BD in _blocks(x_ND)]).sum(
        dim=0
    ) / len(x_ND)


def _mean_norm(x_ND: Tensor) -> float:
    return sum(float(block_BD.norm(dim=1).double().sum()) for block_BD in _blocks(x_ND)) / len(x_ND)


def _variance(x_ND: Tensor, mean_D: Tensor) -> float:
    near_D = mean_D.float()
    return sum(float((block_BD - near_D).double().square().sum()) for block_BD in _blocks(x_ND)) / len(x_ND)


def geometric_median(x_ND: Tensor, n_iterations: int = 100, tolerance: float = 1e-5) -> Tensor:
    """The point with the smallest mean distance to the rows, by Weiszfeld's iteration: (D,)."""
    point_D = _mean(x_ND).float()
    for _ in range(n_iterations):
        weighted_D, total = torch.zeros_like(point_D), 0.0
        for block_BD in _blocks(x_ND):
            weights_B = 1 / (block_BD - point_D).norm(dim=1).clamp_min(1e-8)
            weighted_D += weights_B @ block_BD
            total += float(weights_B.sum())
        moved_D = weighted_D / total
        if float((moved_D - point_D).norm()) <= tolerance * float(point_D.norm() + 1e-12):
            return moved_D
        point_D = moved_D
    return point_D


def _blocks(x_ND: Tensor) -> Sequence[Tensor]:
    """Views of some tokens at a time, so that temporaries take little memory."""
    return torch.split(x_ND, _BLOCK_TOKENS)
