"""Contexts divided into ten bands of strength, and five where nothing is said."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import ValidationError

from tasks.activations.reading.shards import ActivationSet
from tasks.autointerp.records import read_evidence
from tasks.autointerp.scorer import items_of
from tasks.dictionaries.base import Dictionary
from tasks.mining.config import MiningConfig
from tasks.mining.miner import mine

CONFIG = MiningConfig(
    window_tokens=8, tokens_before_peak=5, chunk_tokens=16, n_top=6, n_per_band=4, n_random=6, bands=10
)


def _strengths(examples: pa.Table, feature: int, band: str) -> list[float]:
    chosen = pc.and_(pc.equal(examples["feature_index"], feature), pc.equal(examples["band"], band))
    return examples.filter(chosen)["max_activation"].to_pylist()


def test_ten_bands_descend_and_are_read_from_strong_to_weak(
    planted_set: ActivationSet,
    identity: Callable[[int], Dictionary],
    documents: pa.Table,
    tmp_path: Path,
) -> None:
    mined = mine(identity(12), planted_set, documents, None, CONFIG, tmp_path)
    examples = pa.Table.from_batches(mined.examples)
    assert set(mined.features["n_bands"].to_pylist()) == {10}
    for feature in (0, 1, 3, 6):
        bands = [_strengths(examples, feature, f"q{number}") for number in range(1, 11)]
        assert all(bands)
        for stronger, weaker in pairwise(bands):
            assert min(stronger) >= max(weaker)
    keys = list(zip(*(examples[c].to_pylist() for c in ("feature_index", "band", "rank")), strict=True))
    assert keys == sorted(keys)
    first = next(read_evidence(mined.features, [examples]))
    assert first.firing_bands == ("top", *(f"q{number}" for number in range(1, 11)))
    scored = items_of(first, {"firing": 22})
    assert {first.band_W[row] for row in scored.row_I} >= {"q8", "q9", "q10"}


def test_five_bands_are_the_default_and_change_no_fingerprint() -> None:
    assert MiningConfig().bands == 5
    assert "bands" not in MiningConfig().canonical()
    assert MiningConfig(bands=10).canonical()["bands"] == 10
    with pytest.raises(ValidationError, match="bands"):
        MiningConfig(bands=7)  # type: ignore[arg-type]
