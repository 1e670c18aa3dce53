"""Numbers that are none, kills, damaged shards, and memory."""

import os
import resource
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.errors import UserError
from catalog.faults import ENVIRONMENT, InjectedFault
from tasks.activations.reading.shards import ActivationSet
from tasks.dictionaries.base import build_dictionary, dictionary_config
from tasks.mining.config import MiningConfig
from tasks.mining.miner import mine

CONFIG = MiningConfig(
    window_tokens=8, tokens_before_peak=5, chunk_tokens=16, n_top=6, n_per_band=4, shard_tokens=500
)


def _mine_all(*arguments, config: MiningConfig = CONFIG) -> tuple[pa.Table, pa.Table, int]:
    *rest, scratch = arguments
    mined = mine(*rest, None, config, scratch)
    return mined.features, pa.Table.from_batches(mined.examples), mined.n_nonfinite


def _with_nonfinite(n_bad: int) -> Callable[[np.ndarray], np.ndarray]:
    def activations(segment: np.ndarray) -> np.ndarray:
        values = np.random.default_rng(0).random((*segment.shape, 4)).astype(np.float32)
        rows = np.argwhere(segment >= 0)[:: max(1, int((segment >= 0).sum() / max(1, n_bad)))][:n_bad]
        values[tuple(rows.T)] = [np.nan, 1.0, 2.0, np.inf]
        return values

    return activations


def test_tokens_that_are_not_finite_are_left_out_and_counted(
    texts, documents, identity, tokenise_texts, write_planted_set, tmp_path: Path
) -> None:
    tokenised = tokenise_texts(texts)
    lax = CONFIG.model_copy(update={"max_nonfinite_share": 0.02})
    bad = write_planted_set(tmp_path / "bad", tokenised, _with_nonfinite(9), context_length=32)
    features, examples, n_nonfinite = _mine_all(identity(4), bad, documents, tmp_path / "scratch", config=lax)
    assert n_nonfinite == 9
    n_valid = int(np.asarray(bad.tokens.valid).sum())
    assert features["n_tokens"].to_pylist() == [n_valid - 9] * 4
    assert np.isfinite(np.concatenate(examples["activations"].to_numpy())).all()
    with pytest.raises(UserError, match=rf"9 of {n_valid} tokens have NaN or infinite"):
        _mine_all(identity(4), bad, documents, tmp_path / "again")


def test_an_unbroken_run_and_a_resumed_one_agree(
    planted_set, documents, identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = _mine_all(identity(12), planted_set, documents, tmp_path / "unbroken")
    n_shards = len(list((tmp_path / "unbroken/codes").iterdir()))
    assert n_shards > 4
    for visit in range(1, n_shards + 1):
        scratch = tmp_path / f"broken-{visit}"
        monkeypatch.setenv(ENVIRONMENT, f"mining.shard:{visit}:raise")
        monkeypatch.setattr("catalog.faults._visits", __import__("collections").Counter())
        with pytest.raises(InjectedFault):
            _mine_all(identity(12), planted_set, documents, scratch)
        monkeypatch.delenv(ENVIRONMENT)
        assert len(list((scratch / "codes").iterdir())) == visit - 1
        resumed = _mine_all(identity(12), planted_set, documents, scratch)
        assert resumed[0].equals(unbroken[0])
        assert resumed[1].equals(unbroken[1])


def mine_topk(folder: Path, scratch: Path) -> tuple[pa.Table, pa.Table, int]:
    """What the process that is killed runs, and the unbroken run it is compared with."""
    fields = {"expansion_factor": 2, "k": 3, "seed": 0, "n_tokens": 1000, "batch_tokens": 100, "lr": 1e-3}
    dictionary = build_dictionary(dictionary_config({"architecture": "topk", **fields}), 12)
    documents = pq.read_table(folder / "documents.parquet")
    return _mine_all(dictionary, ActivationSet.open(folder), documents, scratch)


def test_kill_minus_nine_loses_nothing(planted_set, documents, tmp_path: Path) -> None:
    pq.write_table(documents, planted_set.folder / "documents.parquet")
    run = "import runpy, sys; from pathlib import Path as P; "
    call = run + "runpy.run_path(sys.argv[1])['mine_topk'](*map(P, sys.argv[2:]))"
    command = [sys.executable, "-c", call, __file__, str(planted_set.folder), str(tmp_path / "killed")]
    environment = os.environ | {ENVIRONMENT: "mining.shard:3:kill", "OMP_NUM_THREADS": "1"}
    killed = subprocess.run(command, env=environment, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "killed/codes").glob("*.safetensors"))) == 2
    resumed = mine_topk(planted_set.folder, tmp_path / "killed")
    unbroken = mine_topk(planted_set.folder, tmp_path / "unbroken")
    assert resumed[0].equals(unbroken[0])
    assert resumed[1].equals(unbroken[1])


def test_a_damaged_or_foreign_shard_is_written_again(
    planted_set, documents, identity, tmp_path: Path
) -> None:
    expected = _mine_all(identity(12), planted_set, documents, tmp_path)
    shards = sorted((tmp_path / "codes").iterdir())
    shards[0].write_bytes(shards[0].read_bytes()[:50])
    shards[1].write_bytes(shards[2].read_bytes())
    (tmp_path / "codes" / ".tmp-left-over").write_bytes(b"half")
    again = _mine_all(identity(12), planted_set, documents, tmp_path)
    assert again[0].equals(expected[0])
    assert again[1].equals(expected[1])


def test_memory_does_not_grow_with_the_tokens(
    identity, tokenise_texts, write_planted_set, tmp_path: Path
) -> None:
    """Four times the tokens, the same peak: what is kept per feature is bounded."""
    peaks = []
    for n_documents in (60, 240):
        texts = ["the cat sat on a mat and saw the cat run fast " * 12] * n_documents
        table = pa.table({"document_id": [f"d{i}" for i in range(n_documents)], "text": texts})
        activation_set = write_planted_set(
            tmp_path / str(n_documents),
            tokenise_texts(texts),
            lambda s: np.random.default_rng(0).random((*s.shape, 8)) - 0.8,
            context_length=64,
        )
        scratch = tmp_path / f"scratch-{n_documents}"
        config = CONFIG.model_copy(update={"shard_tokens": 2_048, "coactivation_tokens": 2_000})
        tracemalloc.start()
        mined = mine(identity(8), activation_set, table, None, config, scratch)
        assert sum(batch.num_rows for batch in mined.examples) > 500
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.25 * peaks[0]


def test_a_full_disk_is_said_in_one_sentence(
    planted_set, documents, identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10))
    with pytest.raises(UserError, match=r"mining needs about .* GB more in .*codes"):
        _mine_all(identity(12), planted_set, documents, tmp_path / "small")
    monkeypatch.undo()
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(UserError, match=r"cannot write [\d,]+ bytes to .*000000.safetensors"):
            _mine_all(identity(12), planted_set, documents, tmp_path / "full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    assert not list((tmp_path / "full" / "codes").iterdir())
    assert _mine_all(identity(12), planted_set, documents, tmp_path / "full")[0].num_rows == 12


def test_a_wide_dictionary_is_encoded_in_slices(
    planted_set, documents, identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _mine_all(identity(12), planted_set, documents, tmp_path / "whole")
    monkeypatch.setattr("tasks.mining.codes._DENSE_NUMBERS", 12 * 7)
    sliced = _mine_all(identity(12), planted_set, documents, tmp_path / "sliced")
    assert sliced[0].equals(whole[0])
    assert sliced[1].equals(whole[1])
