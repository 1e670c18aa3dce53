"""What a training or a fit gives: a dictionary with its log, or a checkpoint to go on from."""

from dataclasses import dataclass

import pyarrow as pa

from tasks.dictionaries.base import Dictionary


class TrainingInterrupted(Exception):
    """The training was asked to stop; it has written a checkpoint and can go on from there."""


@dataclass(frozen=True)
class TrainedDictionary:
    """What a training gives; normalisation is folded in."""

    dictionary: Dictionary
    log: pa.Table
    """step, n_tokens, metric, value"""
    scales: tuple[float, ...]
    """Factor on the activations of each hookpoint during the training, folded into the weights."""
    n_nonfinite: int
    """Tokens left out because a value was NaN or infinite."""
    tokens_per_second: float
    """Speed of this process, checkpoints included."""
