"""The streaming pass: statistics, strongest contexts and fair samples of every feature.

Memory depends on the number of features, never on the number of tokens. Shapes: L features, E firings,
R peaks; slots are ``feature * 2 + split``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.common.progress import Progress, ProgressListener
from tasks.mining.codes import CodeShard, Firings
from tasks.mining.config import MiningConfig
from tasks.mining.context_pairs import ContextPairs, draw_contexts
from tasks.mining.earlier_pass import ACCUMULATED, EarlierPass
from tasks.mining.hashing import hash64, uniform
from tasks.mining.nearest import Coactivation
from tasks.mining.selection import BoundedSelection
from tasks.mining.spread import DocumentSpread
from tasks.mining.statistics import FiringStatistics
from tasks.mining.windows import chunk_starts, find_peaks

if TYPE_CHECKING:
    from tasks.activations.text.packing import PackedTokens

POOL_CHUNKS = 4_096
"""Chunks of each split that random controls are drawn from."""

_MOST_PAIRS = 500_000_000
"""Upper bound on the pairs of features counted for co-activation: mean L0 squared per token."""

_SAMPLE, _POOL_KEY, _POOL_PLACE, _TOKENS = range(4)


@dataclass(frozen=True)
class Survey:
    """What one pass over the firings leaves behind."""

    statistics: FiringStatistics
    top: BoundedSelection
    """Strongest peaks of each (feature, split); the key is the negative activation."""
    sample: BoundedSelection
    """Uniform sample of the peaks of each (feature, split); the key is a hash."""
    pool: BoundedSelection
    """Random places of each split, drawn in proportion to the tokens of their chunks."""
    coactivation: Coactivation
    n_chunks: int
    """Chunks with at least one token that is mined."""
    n_tokens: int
    """Tokens mined."""
    spread: DocumentSpread
    """How firings spread over documents."""
    coactivation_share: float
    """Share of the sequences that co-activation was counted on."""
    contexts: ContextPairs
    """Firings in two contexts of each document of a sample."""


def survey(
    shards: Sequence[CodeShard],
    tokens: "PackedTokens",
    split_of_document: np.ndarray,
    n_features: int,
    config: MiningConfig,
    listener: ProgressListener,
    special_token_ids: Sequence[int] = (),
    earlier: EarlierPass | None = None,
) -> Survey:
    """Read all firings once; activation mass on ``special_token_ids`` is summed apart.

    The pass goes on from ``earlier``, a pass over the first of these shards, with the same result as a pass
    over all: every sum continues with the same numbers in the same order.
    """
    n_tokens = sum(shard.n_tokens for shard in shards)
    mean_l0 = sum(shard.n_firings for shard in shards) / max(1, n_tokens)
    n_coactivation = min(config.coactivation_tokens, _MOST_PAIRS / max(1.0, mean_l0**2))
    share = n_coactivation / max(1, n_tokens)
    drawn = draw_contexts(shards, tokens, len(split_of_document), config.chunk_tokens, config.seed)
    contexts = ContextPairs(drawn, n_features)
    pass_ = _Pass(tokens, split_of_document, config, contexts, n_features, share, special_token_ids)
    if earlier is not None:
        pass_.resume(earlier, shards)
    for number, shard in enumerate(shards, start=1):
        if earlier is None or shard.first_sequence >= earlier.n_sequences:
            pass_.read(shard)
        pass_.count_sampled(shard)
        listener(Progress("shards surveyed", number, len(shards)))
    return Survey(
        pass_.statistics,
        pass_.top,
        pass_.sample,
        pass_.pool,
        pass_.coactivation,
        pass_.n_chunks,
        n_tokens,
        pass_.spread,
        share,
        pass_.contexts,
    )


class _Pass:
    def __init__(
        self,
        tokens: "PackedTokens",
        split_of_document: np.ndarray,
        config: MiningConfig,
        contexts: ContextPairs,
        n_features: int,
        coactivation_share: float,
        special_token_ids: Sequence[int],
    ) -> None:
        self.tokens, self.split_of_document, self.config = tokens, split_of_document, config
        self.statistics = FiringStatistics(n_features)
        self.spread = DocumentSpread(n_features)
        self.top = BoundedSelection(2 * n_features, config.n_top)
        self.sample = BoundedSelection(2 * n_features, config.n_per_band * config.bands)
        self.pool = BoundedSelection(2, POOL_CHUNKS)
        self.coactivation = Coactivation(n_features)
        self.contexts = contexts
        self.n_chunks = 0
        self.coactivation_share = coactivation_share
        self.special_token_ids = np.asarray(special_token_ids, dtype=np.int64)

    def resume(self, earlier: EarlierPass, shards: Sequence[CodeShard]) -> None:
        """Begin where an earlier pass ended."""
        for name in ACCUMULATED:
            earlier.restore(name, getattr(self, name))
        self.n_chunks = earlier.n_chunks
        self.contexts.take(earlier.arrays["contexts.chunks"], earlier.arrays["contexts.bits"])
        if self.coactivation_share <= earlier.coactivation_share:
            features_E, positions_E, values_E = earlier.coactivation
            sampled = self._is_sampled(positions_E // self.tokens.context_length)
            self.coactivation.add(features_E[sampled], positions_E[sampled], values_E[sampled])
        else:  # the earlier sample lacks sequences of this one
            for shard in shards:
                if shard.first_sequence < earlier.n_sequences:
                    self._read_coactivation(shard, shard.firings())

    def read(self, shard: CodeShard) -> None:
        rows = slice(shard.first_sequence, shard.first_sequence + shard.n_sequences)
        begins = chunk_starts(np.asarray(self.tokens.segment[rows]), self.config.chunk_tokens).ravel()
        chunk_of_position = shard.first_position + np.maximum.accumulate(
            np.where(begins, np.arange(begins.size), 0)
        )
        document_of_position = np.asarray(self.tokens.document_index[rows]).ravel()
        valid = np.asarray(self.tokens.valid[rows]).ravel()
        self._read_chunks(shard, begins, valid, document_of_position)
        firings = shard.firings()
        self.statistics.add(firings, self._on_special(shard, firings))
        documents_E = document_of_position[firings.positions_E - shard.first_position]
        self.spread.add(firings.features_E, documents_E, document_of_position[valid])
        self._read_peaks(shard, firings, chunk_of_position, document_of_position)
        self._read_coactivation(shard, firings)

    def _on_special(self, shard: CodeShard, firings: Firings) -> np.ndarray | None:
        if len(self.special_token_ids) == 0:
            return None
        rows = slice(shard.first_sequence, shard.first_sequence + shard.n_sequences)
        special = np.isin(np.asarray(self.tokens.token_ids[rows]).ravel(), self.special_token_ids)
        on_special: np.ndarray = special[firings.positions_E - shard.first_position]
        return on_special

    def _read_chunks(
        self, shard: CodeShard, begins: np.ndarray, valid: np.ndarray, document_of_position: np.ndarray
    ) -> None:
        start = np.flatnonzero(begins)
        n_valid = np.add.reduceat(valid.astype(np.int64), start)
        length = np.diff(np.append(start, begins.size))
        used = n_valid > 0
        start, n_valid, length = start[used], n_valid[used], length[used]
        self.n_chunks += len(start)
        chunk = start + shard.first_position
        seed = self.config.seed
        keys = -np.log(uniform(seed, chunk, np.full_like(chunk, _POOL_KEY))) / n_valid
        draw = hash64(seed, chunk, np.full_like(chunk, _POOL_PLACE)) % length.astype(np.uint64)
        splits = self.split_of_document[document_of_position[start]].astype(np.int64)
        self.pool.offer(splits, keys, chunk + draw.astype(np.int64), np.zeros(len(chunk), dtype=np.float32))

    def _read_peaks(
        self,
        shard: CodeShard,
        firings: Firings,
        chunk_of_position: np.ndarray,
        document_of_position: np.ndarray,
    ) -> None:
        peaks = find_peaks(firings, chunk_of_position, shard.first_position)
        self.statistics.add_chunks(peaks.features_R)
        self.contexts.add(peaks.features_R, peaks.chunks_R, shard.first_position, shard.end_position)
        documents_R = document_of_position[peaks.positions_R - shard.first_position]
        slots_R = peaks.features_R * 2 + self.split_of_document[documents_R]
        self.top.offer(slots_R, -peaks.values_R.astype(np.float64), peaks.positions_R, peaks.values_R)
        draw_R = uniform(
            self.config.seed, peaks.chunks_R, peaks.features_R, np.full_like(peaks.chunks_R, _SAMPLE)
        )
        self.sample.offer(slots_R, draw_R, peaks.positions_R, peaks.values_R)

    def _read_coactivation(self, shard: CodeShard, firings: Firings) -> None:
        sequences = np.arange(shard.first_sequence, shard.first_sequence + shard.n_sequences)
        sampled = self._is_sampled(sequences)[
            firings.positions_E // shard.context_length - shard.first_sequence
        ]
        parts = (firings.features_E, firings.positions_E, firings.values_E)
        self.coactivation.add(*(part[sampled] for part in parts))

    def count_sampled(self, shard: CodeShard) -> None:
        """Add the tokens of a shard that co-activation is counted on."""
        sequences = np.arange(shard.first_sequence, shard.first_sequence + shard.n_sequences)
        rows = sequences[self._is_sampled(sequences)]
        self.coactivation.n_tokens += int(np.count_nonzero(np.asarray(self.tokens.valid[rows])))

    def _is_sampled(self, sequences: np.ndarray) -> np.ndarray:
        draw = uniform(self.config.seed, sequences, np.full_like(sequences, _TOKENS))
        sampled: np.ndarray = draw < self.coactivation_share
        return sampled
