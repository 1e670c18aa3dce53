"""Decides which number format activations need on disk.

Shapes: B sequences, T context, D width, N tokens.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tasks.activations.reading.shard_files import ShardFormat

FLOAT16_LIMIT = 6e4 / 2
"""Half of float16's maximum (65,504): room for tokens that the probe does not see."""
ROUNDING_SHARE_LIMIT = 1e-4
"""Rounding error that float16 may add, as a share of the variance that a dictionary has to explain."""


@dataclass(slots=True)
class RangeProbe:
    """Collects the statistics that decide between float16 and float32 over a sample of valid tokens."""

    peak: float = 0.0
    n: int = 0
    rounding: float = 0.0
    """Sum of squared differences to the float16 values."""
    _sums: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    _squares: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def add(self, x_ND: Tensor) -> None:
        """Add tokens; the probe ignores tokens that are not finite."""
        if self.n == 0:
            self._sums = np.zeros(x_ND.shape[1])
            self._squares = np.zeros(x_ND.shape[1])
        x_ND = x_ND[torch.isfinite(x_ND).all(dim=1)].double()
        if not len(x_ND):
            return
        self.n += len(x_ND)
        self.peak = max(self.peak, float(x_ND.abs().max()))
        self.rounding += float((x_ND - x_ND.half().double()).nan_to_num(posinf=0, neginf=0).square().sum())
        self._sums += x_ND.sum(dim=0).cpu().numpy()
        self._squares += x_ND.square().sum(dim=0).cpu().numpy()

    @property
    def rounding_share(self) -> float:
        """Float16 rounding error over total variance (the error a perfect dictionary would keep)."""
        variance = float((self._squares - self._sums**2 / max(self.n, 1)).sum())
        return self.rounding / variance if variance > 0 else 0.0

    def choose(self) -> ShardFormat:
        """``float16`` unless values are too large for it or its rounding error is too large."""
        fits = self.peak <= FLOAT16_LIMIT and self.rounding_share <= ROUNDING_SHARE_LIMIT
        return "float16" if fits else "float32"


def storable(
    x_BTD: Tensor, padding_BT: Tensor, dtype: ShardFormat
) -> tuple[npt.NDArray[Any], Tensor, Tensor]:
    """Activations as they are stored on disk.

    Args:
        x_BTD: Activations from the model.
        padding_BT: True if there is no token; zeros are stored there.
        dtype: Number format of the shard.

    Returns:
        The values to store, zero if a token is padding or not finite in ``dtype``; which tokens are
        finite ``(B, T)``; Euclidean norms ``(B, T)``, float32.
    """
    target = torch.float16 if dtype == "float16" else torch.float32
    x_BTD = x_BTD.float()
    peak_BT = torch.linalg.vector_norm(x_BTD, ord=float("inf"), dim=2)  # one pass, no temporary
    finite_BT = peak_BT <= torch.finfo(target).max  # also false for NaN
    norms_BT = torch.linalg.vector_norm(x_BTD, dim=2)
    left_out_BT = padding_BT | ~finite_BT
    stored_BTD = x_BTD.to(target)
    if bool(left_out_BT.any()):
        stored_BTD = stored_BTD.masked_fill(left_out_BT[:, :, None], 0.0)  # ``x_BTD`` does not change
    return stored_BTD.cpu().numpy(), finite_BT.cpu(), norms_BT.cpu()
