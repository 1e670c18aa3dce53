"""One pass of the model over packed tokens: shards of every hookpoint, written while the model continues.

Shapes: B sequences, T context, D width.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tasks.activations.caching.background import Background
from tasks.activations.caching.massive import USUAL, MassiveRule, Norms, find_massive
from tasks.activations.caching.precision import storable
from tasks.activations.models.language_model import LanguageModel
from tasks.activations.reading.capture import capture
from tasks.activations.reading.shard_files import ShardFormat, ShardRecord, ShardWriter, shard_starts
from tasks.activations.text.inputs import model_inputs
from tasks.activations.text.packing import PADDING, PackedTokens


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """The distribution of the sequences of a set over shards, the same for all hookpoints of a pass, and
    which tokens of a shard count as massive."""

    parts: tuple[tuple[int, int], ...]
    """As in `PackedTokens`."""
    sequences_per_shard: int
    batch_sequences: int
    massive_rule: MassiveRule = USUAL

    @property
    def n_shards(self) -> int:
        return len(shard_starts(self.parts, self.sequences_per_shard))

    def bounds(self, number: int) -> tuple[int, int]:
        """First sequence of a shard and the one after its last."""
        edges = [*shard_starts(self.parts, self.sequences_per_shard), sum(map(sum, self.parts))]
        return edges[number], edges[number + 1]

    def batches(self, number: int) -> Iterator[slice]:
        """The sequences of each forward pass of a shard; always the same, so results are too."""
        first, end = self.bounds(number)
        for start in range(first, end, self.batch_sequences):
            yield slice(start, min(start + self.batch_sequences, end))


@dataclass(slots=True)
class _GrowingShard:
    """The shard of one hookpoint while it is written, with the data of its record."""

    writer: ShardWriter
    dtype: ShardFormat
    first_sequence: int
    massive_rule: MassiveRule
    nonfinite: list[int] = field(default_factory=list)
    norm_sum: float = 0.0
    n_normed: int = 0
    norms: list[Norms] = field(default_factory=list)
    """Of each batch: norms of its tokens, NaN if a token does not count."""

    def take(
        self, x_BTD: Tensor, padding_BT: Tensor, packed: PackedTokens, rows: slice, background: Background
    ) -> None:
        """Store a batch and count its norms and non-finite tokens."""
        values, finite_tensor, norms_tensor = storable(x_BTD, padding_BT, self.dtype)
        background.write(self.writer.append, values)
        finite_BT, valid_BT = finite_tensor.numpy(), np.asarray(packed.valid[rows])
        sequences, places = np.nonzero(valid_BT & ~finite_BT)
        offset = rows.start - self.first_sequence
        self.nonfinite += ((sequences + offset) * packed.context_length + places).tolist()
        counted_BT = valid_BT & finite_BT & packed.is_train[rows, None]
        self.norm_sum += float(norms_tensor.numpy()[counted_BT].sum(dtype=np.float64))
        self.n_normed += int(np.count_nonzero(counted_BT))
        self.norms.append(np.where(valid_BT & finite_BT, norms_tensor.numpy(), np.nan).astype(np.float32))

    def finish(self) -> ShardRecord:
        """Make the shard durable."""
        found = find_massive(np.concatenate(self.norms), self.massive_rule)
        return self.writer.finish(
            first_sequence=self.first_sequence,
            nonfinite=tuple(self.nonfinite),
            norm_sum=self.norm_sum,
            n_normed=self.n_normed,
            massive=found.places,
            massive_norms=found.norms,
            median_norm=found.median,
            square_sum=found.square_sum,
        )


class UnfinishedShards:
    """One shard of every hookpoint, computed but still with the writer thread."""

    def __init__(self, shards: Mapping[str, _GrowingShard]) -> None:
        self._shards = shards

    def finish(self) -> dict[str, ShardRecord]:
        """Make the files durable; return the records by hookpoint, the caller writes the indices.

        Runs on the writer thread, after the writes of the shard.
        """
        return {name: shard.finish() for name, shard in self._shards.items()}

    def abandon(self) -> None:
        """Close and remove unfinished files; the writer thread must have ended."""
        for shard in self._shards.values():
            shard.writer.abandon()


def write_shard(
    language_model: LanguageModel,
    packed: PackedTokens,
    layout: ShardLayout,
    number: int,
    folders: Mapping[str, Path],
    dtypes: Mapping[str, ShardFormat],
    widths: Mapping[str, int],
    background: Background,
    told: Callable[[int], None] = lambda _: None,
) -> UnfinishedShards:
    """Run the model over the sequences of one shard and hand the values of each hookpoint to the writer.

    ``told`` gets, after each forward pass, the sequence up to which the model ran.

    Returns:
        The shards that `UnfinishedShards.finish`, queued on the same writer, makes durable.

    Raises:
        OSError: from this or an earlier write on the writer thread.
    """
    first, end = layout.bounds(number)
    shards: dict[str, _GrowingShard] = {}
    unfinished = UnfinishedShards(shards)
    background.on_failure(unfinished.abandon)
    for name, folder in folders.items():
        shape = (end - first, packed.context_length, widths[name])
        writer = ShardWriter(folder, number, shape, dtypes[name])
        shards[name] = _GrowingShard(writer, dtypes[name], first, layout.massive_rule)
    for rows in layout.batches(number):
        _run_batch(language_model, packed, rows, shards, background)
        told(rows.stop)
    return unfinished


def _run_batch(
    language_model: LanguageModel,
    packed: PackedTokens,
    rows: slice,
    shards: Mapping[str, _GrowingShard],
    background: Background,
) -> None:
    """One forward pass, in a separate function so that none of its tensors lives during the next one."""
    captured = capture(language_model, list(shards), model_inputs(language_model, packed, rows))
    padding_BT = torch.from_numpy(packed.segment[rows] == PADDING).to(language_model.device)
    for name, shard in shards.items():
        shard.take(captured.pop(name), padding_BT, packed, rows, background)
