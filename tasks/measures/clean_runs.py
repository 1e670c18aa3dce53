"""Predictions of the unmodified model, stored for the next dictionary measured on the same tokens.

Shapes: P predicted tokens, V vocabulary.
"""

from collections.abc import Callable

from torch import Tensor

MOST_BYTES = 2**30
"""Limit on host memory; batches beyond it run again."""


class CleanRuns:
    """Log-probabilities of unmodified runs by batch, as they were computed."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._kept: dict[int, Tensor] = {}
        self._free = most_bytes

    def of(self, batch: int, run: Callable[[], Tensor]) -> Tensor:
        """Those of a batch (P, V), computed unless they are stored."""
        if batch in self._kept:
            return self._kept[batch]
        log_probs_PV = run()
        n_bytes = log_probs_PV.numel() * log_probs_PV.element_size()
        if n_bytes <= self._free:
            self._kept[batch] = log_probs_PV.cpu()
            self._free -= n_bytes
        return log_probs_PV
