"""Mining tells how far it is whenever it has read the firings of a shard."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.activations.reading.shards import ActivationSet
from tasks.common.progress import Progress
from tasks.dictionaries.base import Dictionary
from tasks.mining.codes import CodeShard
from tasks.mining.config import MiningConfig
from tasks.mining.miner import mine

CONFIG = MiningConfig(
    window_tokens=8, tokens_before_peak=5, chunk_tokens=16, n_top=6, n_per_band=4, n_random=6, n_neighbour=6
)


def test_a_mining_is_never_silent_for_two_shards(
    planted_set: ActivationSet,
    identity: Callable[[int], Dictionary],
    documents: pa.Table,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever reads firings of a shard is followed by a word to the listener."""
    events: list[Progress | None] = []
    firings = CodeShard.firings
    monkeypatch.setattr(CodeShard, "firings", lambda *of: events.append(None) or firings(*of))
    config = CONFIG.model_copy(update={"shard_tokens": 64})
    mined = mine(
        identity(12),
        planted_set,
        documents=documents,
        unembedding=None,
        config=config,
        scratch=tmp_path,
        listener=events.append,
    )
    assert sum(batch.num_rows for batch in mined.examples) > 0
    silences = "".join("r" if event is None else " " for event in events).split()
    assert len(silences) >= 8, "there is something to wait for"
    assert max(map(len, silences)) <= 2, "a survey reads each shard twice"
