"""Firings by document against sums of the dense codes."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import tasks.mining.codes
import tasks.mining.document_firings
from catalog.errors import UserError
from catalog.schemas import TABLES
from tasks.activations.reading.shards import ActivationSet
from tasks.dictionaries.base import Dictionary
from tasks.mining.config import DocumentFiringsConfig, MiningConfig
from tasks.mining.miner import Mined, mine

N_FEATURES = 12


@pytest.fixture
def run(
    planted_set: ActivationSet, documents: pa.Table, identity: Callable[[int], Dictionary], tmp_path: Path
) -> Callable[..., Mined]:
    def mined(**settings: Any) -> Mined:
        return mine(identity(N_FEATURES), planted_set, documents, None, MiningConfig(**settings), tmp_path)

    return mined


def of_dense_codes(planted_set: ActivationSet, documents: pa.Table) -> list[tuple[Any, ...]]:
    """The rows by a loop over features and documents, by the ids of the documents."""
    valid = np.asarray(planted_set.tokens.valid)
    codes = np.maximum(planted_set.read(planted_set.sequence_rows()), 0)
    of_token = np.asarray(planted_set.tokens.document_index)
    rows = []
    for feature in range(N_FEATURES):
        for document, name in enumerate(documents["document_id"].to_pylist()):
            values = codes[(of_token == document) & valid, feature]
            if (fired := values[values > 0]).size:
                rows.append((feature, name, fired.size, float(fired.max()), float(fired.sum())))
    return sorted(rows)


@pytest.mark.parametrize(("shard_tokens", "at_once"), [(65_536, 4_000_000), (96, 4_000_000), (48, 150)])
def test_rows_equal_the_sums_of_the_dense_codes(
    run: Callable[..., Mined],
    planted_set: ActivationSet,
    documents: pa.Table,
    shard_tokens: int,
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Documents that several shards hold, and blocks of few features, do not change them."""
    monkeypatch.setattr(tasks.mining.document_firings, "_FIRINGS_AT_ONCE", at_once)
    monkeypatch.setattr(tasks.mining.document_firings, "_ROWS_OF_A_BATCH", 64)
    found = pa.Table.from_batches(run(shard_tokens=shard_tokens).by_document).to_pylist()
    expected = of_dense_codes(planted_set, documents)
    assert [(row["feature_index"], row["document_id"], row["n_tokens"]) for row in found] == [
        row[:3] for row in expected
    ]
    for column, place in (("max_activation", 3), ("sum_activation", 4)):
        np.testing.assert_allclose(
            [row[column] for row in found], [row[place] for row in expected], rtol=1e-6
        )


def test_rows_add_up_to_the_statistics_of_the_features(run: Callable[..., Mined]) -> None:
    mined = run()
    rows = pa.Table.from_batches(mined.by_document)
    n_L = np.bincount(rows["feature_index"], weights=rows["n_tokens"], minlength=N_FEATURES)
    assert n_L.tolist() == mined.features["n_tokens"].to_pylist()
    assert set(rows.column_names) < set(TABLES["document_firings"].schema.names)


def test_thresholds_leave_out_weak_documents(
    run: Callable[..., Mined], planted_set: ActivationSet, documents: pa.Table
) -> None:
    expected = of_dense_codes(planted_set, documents)
    largest = {feature: max(r[3] for r in expected if r[0] == feature) for feature, *_ in expected}
    kept = [r[:2] for r in expected if r[2] >= 2 and r[3] >= 0.5 * largest[r[0]]]
    rows = pa.Table.from_batches(run(document_firings={"min_tokens": 2, "min_share": 0.5}).by_document)
    assert list(zip(*(rows[n].to_pylist() for n in ("feature_index", "document_id")), strict=True)) == kept
    assert 0 < len(kept) < len(expected)


def test_nothing_is_kept_where_it_is_not_wanted(run: Callable[..., Mined]) -> None:
    mined = run(document_firings=DocumentFiringsConfig(keep=False))
    assert list(mined.by_document) == []
    assert mined.n_alive == N_FEATURES - 1


def test_the_forecast_counts_them(
    run: Callable[..., Mined],
    planted_set: ActivationSet,
    documents: pa.Table,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The free space holds the codes and all rows but one."""
    n_bytes = len(of_dense_codes(planted_set, documents)) * tasks.mining.document_firings.BYTES_PER_ROW
    usage = SimpleNamespace(free=n_bytes - 1)
    monkeypatch.setattr(tasks.mining.codes.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match="mining needs about"):
        run()
    run(document_firings={"keep": False})
