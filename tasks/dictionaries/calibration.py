"""Constants of the data that a training needs: mean norm, scale, variance and the first b_dec.

Legend: N tokens, D d_in.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.dictionaries.config import BiasStart, Normalisation

SAMPLE_TOKENS = 131_072


@dataclass(frozen=True)
class Calibration:
    """Constants in the units in which the dictionary trains (inputs times ``scale``)."""

    scale: float
    """Factor on the inputs; folded away when the training ends."""
    mean_norm: float
    """Mean Euclidean norm of a scaled input."""
    total_variance: float
    """Mean over tokens of the squared distance to the mean, scaled inputs."""
    bias: Tensor
    """Where b_dec starts."""


def calibrate(x_ND: Tensor, normalisation: Normalisation, bias_start: BiasStart) -> Calibration:
    """Estimate the constants from a sample of train tokens (float32).

    ``dataset_rms``: scale = sqrt(D) / mean_N |x|, so that inputs have a mean norm of sqrt(D).

    Raises:
        UserError: when all activations are equal, or all zero.
    """
    norm = float(x_ND.norm(dim=1).double().mean())
    mean_D = x_ND.double().mean(dim=0)
    variance = float((x_ND - mean_D.float()).double().square().sum(dim=1).mean())
    if norm == 0 or variance <= 1e-12 * norm**2:
        raise UserError("all activations are equal: a dictionary has nothing to learn from them")
    scale = x_ND.shape[1] ** 0.5 / norm if normalisation == "dataset_rms" else 1.0
    if bias_start == "geometric_median":
        bias_D = geometric_median(x_ND)
    else:
        bias_D = mean_D.float() if bias_start == "mean" else torch.zeros(x_ND.shape[1])
    return Calibration(scale, norm * scale, variance * scale**2, bias_D * scale)


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
