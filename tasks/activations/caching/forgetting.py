"""A cached set without one of its documents: its tokens become padding, its activations zero.

Padding is what a set holds where there is no token, so every reader leaves these places out, and a shard that
is recomputed from the tokens has the same bytes. Norms and counts of massive tokens stay as they were.
"""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from catalog.durable import flush_file, make_folder, replace_file, to_json
from catalog.faults import fault_point
from tasks.activations.reading.shard_files import (
    CorruptShard,
    ShardRecord,
    is_intact,
    read_index,
    shards_digest,
    write_index,
)
from tasks.activations.reading.shards import META, TOKENS
from tasks.activations.text.packing import ARRAYS, PADDING
from tasks.activations.text.token_files import RECORD, corrupt_token_files, file_sha256, read_object
from tasks.common.shared_files import share_file

Places = npt.NDArray[np.int64]
"""Sequence × context length + position of each token, ascending."""

_EMPTY: Mapping[str, int] = {
    "token_ids": 0,
    "segment": PADDING,
    "document_index": PADDING,
    "char_start": 0,
    "char_end": 0,
    "valid": 0,
}


@dataclass(frozen=True, slots=True)
class SetWithout:
    """What the catalogue says of a set after a document was taken out."""

    digest: str
    n_tokens: int
    n_valid_tokens: int


def set_without(source: Path, target: Path, places: Places) -> SetWithout:
    """Write the set of ``source`` to ``target`` without the tokens at ``places``.

    Shards that do not change are shared between both folders, so only those that hold the document take
    space until the old folder is deleted. What mining kept of its pass over the set is left out: the next
    pass starts from the first document.

    Raises:
        CorruptShard: when one of these shards or a token file is damaged: a new digest would hide that.
    """
    make_folder(target / TOKENS)
    meta = read_object(source / META)
    records = read_index(source)
    changed = {number: _within(record, meta, places) for number, record in records.items()}
    _refuse_damage(source, [records[number] for number, here in changed.items() if here.size])
    for number, record in records.items():
        if not changed[number].size:
            share_file(source / record.file, target / record.file)
    n_tokens, n_valid = _write_tokens(source / TOKENS, target / TOKENS, places)
    for number, here in changed.items():
        if here.size:
            fault_point("forget.shard")
            records[number] = _write_shard(source, target, records[number], here)
    write_index(target, records)
    left = SetWithout(shards_digest(records), n_tokens, n_valid)
    replace_file(target / META, to_json({**meta, **asdict(left)}), "forget.meta")
    return left


def _refuse_damage(source: Path, records: Sequence[ShardRecord]) -> None:
    damaged = [record.file for record in records if not is_intact(source, record)]
    damaged += [f"{TOKENS}/{name}" for name in corrupt_token_files(source / TOKENS)]
    if damaged:
        raise CorruptShard(
            f"{damaged[0]} of {source} is damaged or missing: run its pipeline again, which computes damaged "
            "shards again, or cache the set again with --force --stage cache_activations"
        )


def _within(record: ShardRecord, meta: Mapping[str, Any], places: Places) -> Places:
    """The places of a shard, counted from its first token."""
    first = record.first_sequence * int(meta["context_length"])
    end = first + record.n_sequences * int(meta["context_length"])
    return places[(places >= first) & (places < end)] - first


def _write_tokens(source: Path, target: Path, places: Places) -> tuple[int, int]:
    """Token files with padding at ``places``; return how many tokens and valid tokens are left."""
    n_tokens = n_valid = 0
    digests: dict[str, str] = {}
    for name in ARRAYS:
        path = target / f"{name}.npy"
        shutil.copyfile(source / f"{name}.npy", path)
        values = np.load(path, mmap_mode="r+", allow_pickle=False)
        values.reshape(-1)[places] = _EMPTY[name]
        values.flush()
        if name == "segment":
            n_tokens = int(np.count_nonzero(values != PADDING))
        if name == "valid":
            n_valid = int(np.count_nonzero(values))
        del values
        flush_file(path)
        digests[name] = file_sha256(path)
    record = read_object(source / RECORD)
    replace_file(
        target / RECORD, to_json({**record, "n_tokens": n_tokens, "sha256": digests}), "tokens.record"
    )
    return n_tokens, n_valid


def _write_shard(source: Path, target: Path, record: ShardRecord, here: Places) -> ShardRecord:
    path = target / record.file
    shutil.copyfile(source / record.file, path)
    values = np.load(path, mmap_mode="r+", allow_pickle=False)
    values.reshape(-1, values.shape[-1])[here] = 0
    values.flush()
    del values
    flush_file(path)
    gone = set(here.tolist())
    norms = record.massive_norms or (0.0,) * len(record.massive)
    massive = [(place, norm) for place, norm in zip(record.massive, norms, strict=True) if place not in gone]
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return replace(
        record,
        sha256=sha256,
        nonfinite=tuple(place for place in record.nonfinite if place not in gone),
        massive=tuple(place for place, _ in massive),
        massive_norms=tuple(norm for _, norm in massive),
    )
