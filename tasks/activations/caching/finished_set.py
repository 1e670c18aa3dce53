"""The last step of caching: shards and tokens become a self-contained activation set."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from catalog.durable import flush_file, make_folder, replace_file, to_json
from tasks.activations.caching.massive import massive_facts, rule_in
from tasks.activations.caching.plan import CachingPlan
from tasks.activations.reading.shard_files import ShardRecord, shards_digest, write_index
from tasks.activations.reading.shards import META, TOKENS
from tasks.activations.text.packing import ARRAYS, PackedTokens
from tasks.activations.text.token_files import RECORD, file_sha256, read_token_record
from tasks.common.shared_files import share_file

FORMAT = 1
logger = logging.getLogger(__name__)


def finish_set(
    folder: Path,
    token_folder: Path,
    packed: PackedTokens,
    records: dict[int, ShardRecord],
    hookpoint: str,
    plan: CachingPlan,
    facts: dict[str, Any],
) -> None:
    """Add tokens and ``meta.json`` to the finished shards of ``folder``.

    Args:
        folder: Shards of one hookpoint.
        token_folder: Token files shared by all hookpoints.
        packed: The same tokens, opened.
        records: Every shard of the hookpoint.
        hookpoint: Its name.
        plan: Number format, width and size of shards.
        facts: Further content of ``meta.json`` (model, corpus, configuration).
    """
    write_index(folder, records)
    rule, drop = rule_in(facts["config"])
    n_valid = _place_tokens(folder / TOKENS, token_folder, packed, records, drop)
    n_normed = sum(record.n_normed for record in records.values())
    norm_sum = sum(records[number].norm_sum for number in sorted(records))
    massive = massive_facts(records, packed, rule.factor)
    if drop:
        n_normed -= massive.n_train
        norm_sum -= massive.train_norm_sum
    if massive.n:
        logger.warning(massive.sentence(hookpoint, dropped=drop))
    meta: dict[str, Any] = {
        **facts,
        "format": FORMAT,
        "hookpoint": hookpoint,
        "d_in": plan.widths[hookpoint],
        "dtype": plan.dtypes[hookpoint],
        "sequences_per_shard": plan.sequences_per_shard,
        "n_shards": len(records),
        "n_sequences": packed.n_sequences,
        "n_train_sequences": int(packed.is_train.sum()),
        "n_tokens": packed.n_tokens,
        "n_valid_tokens": n_valid,
        "n_nonfinite": sum(len(record.nonfinite) for record in records.values()),
        "norm": norm_sum / n_normed if n_normed else 0.0,
        **massive.columns(dropped=drop),
        "digest": shards_digest(records),
        "n_bytes": sum(record.n_bytes for record in records.values()),
    }
    replace_file(folder / META, to_json(meta), "cache.meta")


def _place_tokens(
    target: Path,
    source: Path,
    packed: PackedTokens,
    records: dict[int, ShardRecord],
    drop_massive: bool,
) -> int:
    """Share the token files with the other hookpoints; each hookpoint has its own ``valid``."""
    make_folder(target)
    for name in ARRAYS:
        if name != "valid":
            share_file(source / f"{name}.npy", target / f"{name}.npy")
    valid_ST = np.array(packed.valid)
    for record in records.values():
        dropped = np.array(record.nonfinite + (record.massive if drop_massive else ()), dtype=np.int64)
        valid_ST.reshape(-1)[record.first_sequence * packed.context_length + dropped] = False
    np.save(target / "valid.npy", valid_ST, allow_pickle=False)
    flush_file(target / "valid.npy")
    token_record = read_token_record(source)
    assert token_record is not None
    sha256 = {**token_record["sha256"], "valid": file_sha256(target / "valid.npy")}
    replace_file(target / RECORD, to_json({**token_record, "sha256": sha256}), "tokens.record")
    return int(np.count_nonzero(valid_ST))
