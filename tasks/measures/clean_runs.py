"""Predictions of the untouched model, kept for the next dictionary that is measured on the same tokens.

Shapes: P predicted tokens, V vocabulary.
"""

from collections.abc import Callable

from torch import Tensor

MOST_BYTES = 2**30
"""Kept in the memory of the host; batches beyond it are run again."""


class CleanRuns:
    """Log-probabilities of untouched runs by batch, as they were computed."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._kept: dict[int, Tensor] = {}
        self._free = most_bytes

    def of(self, batch: int, run: Callable[[], Tensor]) -> Tensor:
        """Those of a batch (P, V), run unless they are kept."""
        if batch in self._kept:
            return self._kept[batch]
        log_probs_PV = run()
        n_bytes = log_probs_PV.numel() * log_probs_PV.element_size()
        if n_bytes <= self._free:
            self._kept[batch] = log_probs_PV.cpu()
            self._free -= n_bytes
        return log_probs_PV
