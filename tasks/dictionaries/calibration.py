"""Constants of the data that a training needs: mean norm, scale, variance and the first b_dec.

Legend: N tokens, W width of all hookpoints together, E d_out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.dictionaries.config import BiasStart, Normalisation

SAMPLE_TOKENS = 131_072


@dataclass(frozen=True)
class Calibration:
    """Constants in the units in which the dictionary trains (activations times their ``scales``)."""

    scales: tuple[float, ...]
    """Factor on the activations of each hookpoint; folded away when the training ends."""
    mean_norm: float
    """Mean Euclidean norm of a scaled input."""
    target_norm: float
    """Mean Euclidean norm of a scaled target."""
    total_variance: float
    """Mean over tokens of the squared distance to the mean, scaled targets."""
    bias: Tensor
    """Where b_dec starts: (E,)."""
    input_mean: Tensor
    """Mean of the scaled inputs: (D,)."""


def calibrate(
    values_NW: Tensor,
    normalisation: Normalisation,
    bias_start: BiasStart,
    site_widths: Sequence[int],
    n_reads: int | None = None,
) -> Calibration:
    """Estimate the constants from a sample of train tokens (float32).

    ``dataset_rms``: the scale of each hookpoint is sqrt(d) / mean_N |x|, so that its activations have a
    mean norm of sqrt(d), d being its width.

    Args:
        values_NW: Activations of all hookpoints side by side.
        normalisation: Whether they are scaled.
        bias_start: Where b_dec starts.
        site_widths: Width of each hookpoint.
        n_reads: How many of them are read, the rest being written; None where the input is reconstructed.

    Raises:
        UserError: when the activations of a hookpoint are all equal, or all zero.
    """
    sites = torch.split(values_NW, list(site_widths), dim=1)
    scales = tuple(_scale(site_ND, normalisation) for site_ND in sites)
    scaled = [site_ND * scale for site_ND, scale in zip(sites, scales, strict=True)]
    x_ND = torch.cat(scaled[:n_reads], dim=1)
    y_NE = x_ND if n_reads is None else torch.cat(scaled[n_reads:], dim=1)
    mean_E = y_NE.double().mean(dim=0)
    if bias_start == "geometric_median":
        bias_E = geometric_median(y_NE)
    else:
        bias_E = mean_E.float() if bias_start == "mean" else torch.zeros(y_NE.shape[1])
    norms = _mean_norm(x_ND), _mean_norm(y_NE)
    return Calibration(scales, *norms, _variance(y_NE, mean_E), bias_E, x_ND.double().mean(dim=0).float())


def _scale(x_ND: Tensor, normalisation: Normalisation) -> float:
    norm = _mean_norm(x_ND)
    if norm == 0 or _variance(x_ND, x_ND.double().mean(dim=0)) <= 1e-12 * norm**2:
        raise UserError("all activations are equal: a dictionary has nothing to learn from them")
    return float(x_ND.shape[1] ** 0.5 / norm) if normalisation == "dataset_rms" else 1.0


def _mean_norm(x_ND: Tensor) -> float:
    return float(x_ND.norm(dim=1).double().mean())


def _variance(x_ND: Tensor, mean_D: Tensor) -> float:
    return float((x_ND - mean_D.float()).double().square().sum(dim=1).mean())


def geometric_median(x_ND: Tensor, n_iterations: int = 100, tolerance: float = 1e-5) -> Tensor:
    """The point with the smallest mean distance to the rows, by Weiszfeld's iteration: (D,)."""
    point_D: Tensor = x_ND.mean(dim=0)
    for _ in range(n_iterations):
        weights_N = 1 / (x_ND - point_D).norm(dim=1).clamp_min(1e-8)
        moved_D: Tensor = (weights_N @ x_ND) / weights_N.sum()
        if float((moved_D - point_D).norm()) <= tolerance * float(point_D.norm() + 1e-12):
            return moved_D
        point_D = moved_D
    return point_D
