"""The rows of ``document_firings``: what each feature does in each document in which it fires.

They are read from the encoded shards, in blocks of features, while they are written. Memory does not grow
with the number of tokens. Shapes: L features, E firings, R runs of one feature in one document.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.schemas import COMMON_COLUMNS, TABLES
from tasks.common.progress import Progress, ProgressListener, silent
from tasks.mining.codes import CodeShard
from tasks.mining.config import MiningConfig

if TYPE_CHECKING:
    from tasks.activations.text.packing import PackedTokens

BYTES_PER_ROW = 12
"""On disk, with compression; measured 10 to 12."""

DOCUMENT_FIRINGS_SCHEMA = pa.schema(
    [
        field
        for field in TABLES["document_firings"].schema.remove_metadata()
        if field.name not in ("dictionary_id", "activation_set_id", *COMMON_COLUMNS)
    ]
)
_FIRINGS_AT_ONCE = 4_000_000
_ROWS_OF_A_BATCH = 65_536


class Runs(NamedTuple):
    """Firings summed by feature and document, in ascending order of both."""

    feature_R: np.ndarray
    document_R: np.ndarray
    n_R: np.ndarray
    max_R: np.ndarray
    sum_R: np.ndarray
    """float64"""


class EarlierRows(NamedTuple):
    """The rows of a pass over the first sequences of a set, in their order; sums never change later."""

    n_sequences: int
    batches: Iterator[pa.RecordBatch]
    """Columns of `DOCUMENT_FIRINGS_SCHEMA`; ``document_id`` as a dictionary."""


def document_firings(
    shards: Sequence[CodeShard],
    tokens: "PackedTokens",
    documents: pa.Table,
    max_L: np.ndarray,
    config: MiningConfig,
    listener: ProgressListener = silent,
    earlier: "EarlierRows | None" = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows, sorted by feature and document; none if ``config`` does not keep them.

    Args:
        shards: Shards of codes.
        tokens: Tokens of the activation set.
        documents: ``document_id`` in the order of the set's ``document_index``.
        max_L: Largest activation of each feature on the set.
        config: Which rows to keep.
        listener: Hears the progress in features.
        earlier: Rows of an earlier pass over the first of these shards, with the same ``config``.
    """
    wanted, n_features = config.document_firings, len(max_L)
    if not wanted.keep:
        return
    document_ids = documents["document_id"].combine_chunks().cast(pa.string())
    order_G = pc.sort_indices(document_ids).to_numpy()
    document_ids, place_G = document_ids.take(order_G), np.argsort(order_G).astype(np.int32)
    n_known = 0 if earlier is None else earlier.n_sequences
    new = [shard for shard in shards if shard.first_sequence >= n_known]
    known = None if earlier is None else _Known(earlier.batches, document_ids)
    for first, n in _blocks(shards, n_features):
        parts = [_runs_of(shard, tokens, first, n, place_G) for shard in new]
        runs = joined(parts if known is None else [known.below(first + n), *parts])
        kept = (runs.n_R >= wanted.min_tokens) & (runs.max_R >= wanted.min_share * max_L[runs.feature_R])
        for start in range(0, len(kept), _ROWS_OF_A_BATCH):
            part = np.flatnonzero(kept[start : start + _ROWS_OF_A_BATCH]) + start
            if len(part):
                yield _batch(runs, part, document_ids)
        listener(Progress("features by document", first + n, n_features))


def expected_bytes(shard: CodeShard, tokens: "PackedTokens") -> int:
    """Disk that the rows of one shard take."""
    return len(_runs_of(shard, tokens, 0, len(shard.offsets_L) - 1).n_R) * BYTES_PER_ROW


def joined(parts: Sequence[Runs]) -> Runs:
    """Runs of successive shards as one; a document that two shards hold becomes one run."""
    feature_R, document_R, n_R, max_R, sum_R = (np.concatenate(column) for column in zip(*parts, strict=True))
    if len(n_R) == 0:
        return Runs(feature_R, document_R, n_R, max_R, sum_R)
    key_R = feature_R.astype(np.int64) << 32 | document_R
    order = np.argsort(key_R, kind="stable")
    key_R = key_R[order]
    begins = np.flatnonzero(np.append(True, key_R[1:] != key_R[:-1]))
    return Runs(
        feature_R[order][begins],
        document_R[order][begins],
        np.add.reduceat(n_R[order], begins),
        np.maximum.reduceat(max_R[order], begins),
        np.add.reduceat(sum_R[order], begins),
    )


class _Known:
    """Reads rows of an earlier pass block by block of features."""

    def __init__(self, batches: Iterator[pa.RecordBatch], document_ids: pa.Array) -> None:
        self._batches, self._document_ids = batches, document_ids
        self._rest = self._none = Runs(
            *(np.zeros(0, kind) for kind in (np.int32, np.int32, np.int64, np.float32, np.float64))
        )

    def below(self, feature: int) -> Runs:
        """The runs of all features below this one that were not read yet."""
        parts = []
        while True:
            n = int(np.searchsorted(self._rest.feature_R, feature))
            parts.append(Runs(*(column[:n] for column in self._rest)))
            self._rest = Runs(*(column[n:] for column in self._rest))
            batch = None if len(self._rest.feature_R) else next(self._batches, None)
            if batch is None:
                return Runs(*(np.concatenate(column) for column in zip(self._none, *parts, strict=True)))
            self._rest = self._runs(batch)

    def _runs(self, batch: pa.RecordBatch) -> Runs:
        names = batch["document_id"]
        place = pc.index_in(names.dictionary, value_set=self._document_ids).to_numpy()
        return Runs(
            batch["feature_index"].to_numpy(),
            place[names.indices.to_numpy()],
            batch["n_tokens"].to_numpy().astype(np.int64),
            batch["max_activation"].to_numpy(),
            batch["sum_activation"].to_numpy().astype(np.float64),
        )


def _blocks(shards: Sequence[CodeShard], n_features: int) -> Iterator[tuple[int, int]]:
    """First feature and number of features of blocks that have few enough firings together."""
    n_L = sum((np.diff(shard.offsets_L) for shard in shards), np.zeros(n_features, dtype=np.int64))
    block_L = np.cumsum(n_L) // _FIRINGS_AT_ONCE
    edges = np.append(np.flatnonzero(np.append(True, block_L[1:] != block_L[:-1])), n_features)
    for first, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        yield first, end - first


def _runs_of(
    shard: CodeShard,
    tokens: "PackedTokens",
    first: int,
    n_features: int,
    place_G: np.ndarray | None = None,
) -> Runs:
    """Runs of some features in a shard; ``place_G`` renumbers the documents."""
    firings = shard.firings(first, n_features)
    rows = slice(shard.first_sequence, shard.first_sequence + shard.n_sequences)
    document_of_position = np.asarray(tokens.document_index[rows]).ravel()
    document_E = document_of_position[firings.positions_E - shard.first_position]
    if place_G is not None:
        document_E = place_G[document_E]
    feature_E = firings.features_E
    if len(feature_E) == 0:
        return Runs(feature_E, document_E, *(np.zeros(0, dtype) for dtype in (np.int64, np.float32, float)))
    changes = (feature_E[1:] != feature_E[:-1]) | (document_E[1:] != document_E[:-1])
    begins = np.flatnonzero(np.append(True, changes))
    return Runs(
        feature_E[begins],
        document_E[begins],
        np.diff(np.append(begins, len(feature_E))),
        np.maximum.reduceat(firings.values_E, begins),
        np.add.reduceat(firings.values_E, begins, dtype=np.float64),
    )


def _batch(runs: Runs, part: np.ndarray, document_ids: pa.Array) -> pa.RecordBatch:
    columns = [
        pa.array(runs.feature_R[part], pa.int32()),
        document_ids.take(pa.array(runs.document_R[part])),
        pa.array(runs.n_R[part], pa.int32()),
        pa.array(runs.max_R[part], pa.float32()),
        pa.array(runs.sum_R[part].astype(np.float32)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=DOCUMENT_FIRINGS_SCHEMA)
