"""The last step of caching: shards and tokens become an activation set that stands alone."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from catalog.durable import make_folder, replace_file, to_json
from tasks.activations.config import ActivationsConfig
from tasks.activations.corpora import CorpusTable
from tasks.activations.language_model import ModelSpec
from tasks.activations.packing import ARRAYS, PackedTokens
from tasks.activations.plan import CachingPlan
from tasks.activations.shard_files import ShardRecord, read_index, shards_digest
from tasks.activations.shards import META, TOKENS
from tasks.activations.token_files import RECORD, file_sha256, read_token_record


def finish_set(
    folder: Path,
    token_folder: Path,
    packed: PackedTokens,
    spec: ModelSpec,
    config: ActivationsConfig,
    hookpoint: str,
    plan: CachingPlan,
    corpus: CorpusTable,
) -> None:
    """Put tokens and ``meta.json`` beside the finished shards of ``folder``."""
    records = read_index(folder)
    n_valid = _place_tokens(folder / TOKENS, token_folder, packed, records, plan.sequences_per_shard)
    n_normed = sum(record.n_normed for record in records.values())
    norm_sum = sum(records[number].norm_sum for number in sorted(records))
    meta: dict[str, Any] = {
        "format": 1,
        "hookpoint": hookpoint,
        "model_id": spec.model_id,
        "weights_digest": spec.weights_digest,
        "tokenizer_digest": spec.tokenizer_digest,
        "corpus_digest": corpus.digest,
        "config": config.canonical(),
        "d_in": plan.widths[hookpoint],
        "dtype": plan.dtypes[hookpoint],
        "context_length": config.context_length,
        "sequences_per_shard": plan.sequences_per_shard,
        "n_shards": len(records),
        "n_sequences": packed.n_sequences,
        "n_train_sequences": packed.n_train,
        "n_tokens": packed.n_tokens,
        "n_valid_tokens": n_valid,
        "n_nonfinite": sum(len(record.nonfinite) for record in records.values()),
        "norm": norm_sum / n_normed if n_normed else 0.0,
        "digest": shards_digest(records),
        "n_bytes": sum(record.n_bytes for record in records.values()),
    }
    replace_file(folder / META, to_json(meta), "cache.meta")


def _place_tokens(
    target: Path,
    source: Path,
    packed: PackedTokens,
    records: dict[int, ShardRecord],
    sequences_per_shard: int,
) -> int:
    """Share the token files with the other hookpoints; ``valid`` is the hookpoint's own."""
    make_folder(target)
    for name in ARRAYS:
        if name != "valid":
            _share(source / f"{name}.npy", target / f"{name}.npy")
    valid_ST = np.array(packed.valid)
    flat = valid_ST.reshape(-1)
    for number, record in records.items():
        flat[
            np.array(record.nonfinite, dtype=np.int64) + number * sequences_per_shard * packed.context_length
        ] = False
    np.save(target / "valid.npy", valid_ST, allow_pickle=False)
    token_record = read_token_record(source)
    assert token_record is not None
    sha256 = {**token_record["sha256"], "valid": file_sha256(target / "valid.npy")}
    replace_file(target / RECORD, to_json({**token_record, "sha256": sha256}), "tokens.record")
    return int(np.count_nonzero(valid_ST))


def _share(source: Path, target: Path) -> None:
    """One file under two names; a copy where the file system cannot do that."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
