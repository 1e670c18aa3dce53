"""Predictions of the unmodified model, stored for the next dictionary measured on the same tokens.

Shapes: P predicted tokens, V vocabulary, B sequences, T context, D width of the stream.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

MOST_BYTES = 2**30
"""Limit on host memory; batches beyond it run again."""


class CleanRun(NamedTuple):
    """What an unmodified run of a batch gave."""

    log_probs_PV: Tensor
    stream_BTD: Tensor | None = None
    """The stream after the blocks that other runs leave out, see `Prefix`; None if they leave out none."""

    def to(self, device: torch.device | str) -> "CleanRun":
        """The same on a device."""
        stream_BTD = None if self.stream_BTD is None else self.stream_BTD.to(device)
        return CleanRun(self.log_probs_PV.to(device), stream_BTD)

    @property
    def n_bytes(self) -> int:
        return sum(part.nbytes for part in self if part is not None)


class CleanRuns:
    """Unmodified runs by batch, as they were computed."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._kept: dict[int, CleanRun] = {}
        self._free = most_bytes

    def of(self, batch: int, run: Callable[[], CleanRun]) -> CleanRun:
        """That of a batch, computed unless it is stored."""
        if batch in self._kept:
            return self._kept[batch]
        clean = run()
        if clean.n_bytes <= self._free:
            self._kept[batch] = clean.to("cpu")
            self._free -= clean.n_bytes
        return clean
