"""The result of a training or a fit: a dictionary with its log, or a checkpoint to continue from."""

from dataclasses import dataclass

import pyarrow as pa

from tasks.dictionaries.base import Dictionary


class TrainingInterrupted(Exception):
    """The training was asked to stop; it has written a checkpoint and can continue from it."""


@dataclass(frozen=True)
class TrainedDictionary:
    """The result of a training; normalisation is folded in."""

    dictionary: Dictionary
    log: pa.Table
    """step, n_tokens, metric, value"""
    scales: tuple[float, ...]
    """Factor on the activations of each hookpoint during the training, folded into the weights."""
    n_nonfinite: int
    """Tokens left out because a value was NaN or infinite."""
    tokens_per_second: float
    """Speed of this process, including checkpoints."""
