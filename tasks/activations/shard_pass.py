"""One pass of the model over packed tokens: shards of every hookpoint, written while the model runs on.

Shapes: B sequences, T context, D width.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tasks.activations.capture import capture
from tasks.activations.forecast import PENDING_BATCHES
from tasks.activations.inputs import model_inputs
from tasks.activations.language_model import LanguageModel
from tasks.activations.packing import PADDING, PackedTokens
from tasks.activations.precision import storable
from tasks.activations.shard_files import ShardFormat, ShardRecord, ShardWriter


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """How the sequences of a set are spread over shards, the same for all hookpoints of a pass."""

    n_sequences: int
    sequences_per_shard: int
    batch_sequences: int

    @property
    def n_shards(self) -> int:
        return -(-self.n_sequences // self.sequences_per_shard)

    def bounds(self, number: int) -> tuple[int, int]:
        """First sequence of a shard and the one after its last."""
        first = number * self.sequences_per_shard
        return first, min(first + self.sequences_per_shard, self.n_sequences)

    def batches(self, number: int) -> Iterator[slice]:
        """The sequences of each forward pass of a shard; always the same, so results are too."""
        first, end = self.bounds(number)
        for start in range(first, end, self.batch_sequences):
            yield slice(start, min(start + self.batch_sequences, end))


@dataclass(slots=True)
class _Gathered:
    """What a shard's record says beside its file."""

    nonfinite: list[int] = field(default_factory=list)
    norm_sum: float = 0.0
    n_normed: int = 0


class _Background:
    """Runs writes in order on one thread, a few at most waiting; errors surface at the next call."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor
        self._pending: deque[Future[None]] = deque()

    def write(self, writer: ShardWriter, rows: npt.NDArray[Any]) -> None:
        while len(self._pending) >= PENDING_BATCHES - 1:
            self._pending.popleft().result()
        self._pending.append(self._executor.submit(writer.append, rows))

    def drain(self) -> None:
        while self._pending:
            self._pending.popleft().result()


def write_shard(
    language_model: LanguageModel,
    packed: PackedTokens,
    layout: ShardLayout,
    number: int,
    folders: Mapping[str, Path],
    dtypes: Mapping[str, ShardFormat],
    widths: Mapping[str, int],
) -> dict[str, ShardRecord]:
    """Run the model over the sequences of one shard and write it for each hookpoint in ``folders``.

    Returns:
        The record of the shard by hookpoint; files are durable, indices are the caller's to write.
    """
    first, end = layout.bounds(number)
    gathered = {name: _Gathered() for name in folders}
    with _writers(folders, number, (end - first, packed.context_length), dtypes, widths) as writers:
        with ThreadPoolExecutor(1, "shard-writer") as executor:
            background = _Background(executor)
            for rows in layout.batches(number):
                captured = capture(language_model, list(folders), model_inputs(language_model, packed, rows))
                padding_BT = torch.from_numpy(packed.segment[rows] == PADDING)
                for name, x_BTD in captured.items():
                    values, finite_BT, norms_BT = storable(
                        x_BTD, padding_BT.to(language_model.device), dtypes[name]
                    )
                    _gather(
                        gathered[name], packed, rows, rows.start - first, finite_BT.numpy(), norms_BT.numpy()
                    )
                    background.write(writers[name], values)
            background.drain()
        return {
            name: writers[name].finish(first, tuple(facts.nonfinite), facts.norm_sum, facts.n_normed)
            for name, facts in gathered.items()
        }


def _gather(
    facts: _Gathered,
    packed: PackedTokens,
    rows: slice,
    offset: int,
    finite_BT: npt.NDArray[np.bool_],
    norms_BT: npt.NDArray[np.float32],
) -> None:
    valid_BT = np.asarray(packed.valid[rows])
    sequences, places = np.nonzero(valid_BT & ~finite_BT)
    facts.nonfinite += ((sequences + offset) * packed.context_length + places).tolist()
    n_train = max(0, min(rows.stop, packed.n_train) - rows.start)
    counted_BT = (valid_BT & finite_BT)[:n_train]
    facts.norm_sum += float(norms_BT[:n_train][counted_BT].sum(dtype=np.float64))
    facts.n_normed += int(np.count_nonzero(counted_BT))


@contextmanager
def _writers(
    folders: Mapping[str, Path],
    number: int,
    shape_ST: tuple[int, int],
    dtypes: Mapping[str, ShardFormat],
    widths: Mapping[str, int],
) -> Iterator[dict[str, ShardWriter]]:
    writers: dict[str, ShardWriter] = {}
    try:
        for name, folder in folders.items():
            writers[name] = ShardWriter(folder, number, (*shape_ST, widths[name]), dtypes[name])
        yield writers
    except BaseException:
        for writer in writers.values():
            writer.abandon()
        raise
