"""The data of several trainings that run step by step together: one stream, and constants measured once.

Legend: W width of all hookpoints together.
"""

from collections.abc import Hashable
from typing import NamedTuple

from torch import Tensor

from tasks.dictionaries.gradient_config import BiasStart, GradientConfig, Normalisation
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.dictionaries.stream import Counts, Cursor, TokenStream, sample_tokens
from tasks.training.calibration import SAMPLE_TOKENS, Calibration, calibrate


class Position(NamedTuple):
    """A position in a stream, and the counts on the way to it."""

    step: int = 0
    """Batches given."""
    cursor: Cursor = Cursor()
    n_read: int = 0
    n_nonfinite: int = 0


class Feed:
    """Batches of one activation set in the order of a configuration.

    Dictionaries with the same ``key`` get the same batches, so one feed serves them all; each is trained
    exactly as it would be alone.
    """

    def __init__(self, activations: HookpointActivations, config: GradientConfig) -> None:
        self.activations = activations
        self.stream = TokenStream(
            activations,
            seed=config.data_seed,
            batch_tokens=config.batch_tokens,
            buffer_tokens=config.buffer_tokens,
            block_sequences=config.block_sequences,
        )
        self._step = 0
        self._calibrations: dict[Hashable, tuple[Calibration, Counts]] = {}

    @staticmethod
    def key(activations: object, config: GradientConfig) -> Hashable:
        """What dictionaries that share a feed have in common."""
        order = (config.data_seed, config.batch_tokens, config.buffer_tokens, config.block_sequences)
        return id(activations), order

    @property
    def position(self) -> Position:
        """The start of the next batch."""
        counts = self.stream.counts
        return Position(self._step, self.stream.cursor, counts.n_read, counts.n_nonfinite)

    def go_to(self, position: Position) -> None:
        """Continue at a position of this or an equal feed."""
        self._step, self.stream.cursor = position.step, position.cursor
        self.stream.counts = Counts(position.n_read, position.n_nonfinite)
        self.stream.resume()

    def next_batch(self, part: slice = slice(None)) -> Tensor:
        """A part of the next ``batch_tokens`` tokens, all of them by default, in float32: (N, W)."""
        batch_NW = self.stream.next_batch(part)
        self._step += 1
        return batch_NW

    def calibration(self, normalisation: Normalisation, bias_start: BiasStart) -> tuple[Calibration, Counts]:
        """Constants of a sample of the data, and the counts of reading it; measured once."""
        wanted = (normalisation, bias_start)
        if wanted not in self._calibrations:
            counts = Counts()
            self._calibrations[wanted] = self._measure(normalisation, bias_start, counts), counts
        return self._calibrations[wanted]

    def _measure(self, normalisation: Normalisation, bias_start: BiasStart, counts: Counts) -> Calibration:
        activations = self.activations
        return calibrate(
            sample_tokens(activations, "train", SAMPLE_TOKENS, counts),
            normalisation,
            bias_start,
            activations.hookpoint_widths,
            None if activations.writes is None else len(activations.reads),
        )
