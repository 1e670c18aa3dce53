"""Shards: raw ``.npy`` files of ``(sequences, context, width)`` and the index that lists them.

A shard exists if the index of its folder lists it; the index is written after the file is durable.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from catalog.durable import flush_folder, replace_file, temporary_beside, to_json
from catalog.faults import fault_point
from tasks.activations.text.token_files import CACHE_AGAIN, DamagedSet, file_sha256, read_object

ShardFormat = Literal["float16", "float32"]
INDEX = "index.json"


class CorruptShard(DamagedSet):
    """A shard on disk differs from what was written; it must be recomputed, never used for training."""


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """One finished shard."""

    number: int
    file: str
    first_sequence: int
    n_sequences: int
    n_bytes: int
    sha256: str
    nonfinite: tuple[int, ...]
    """Valid tokens dropped for non-finite values: sequence within the shard × context + position."""
    norm_sum: float
    """Sum of the Euclidean norms of the valid train tokens."""
    n_normed: int
    massive: tuple[int, ...] = ()
    """Valid tokens of massive norm, counted like those that are not finite."""
    massive_norms: tuple[float, ...] = ()
    """Their Euclidean norms."""
    median_norm: float = 0.0
    """Median of the norms of the valid tokens."""
    square_sum: float = 0.0
    """Sum of the squared norms of the valid tokens."""

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "ShardRecord":
        lists = {name: tuple(value.get(name, ())) for name in ("nonfinite", "massive", "massive_norms")}
        return cls(**{**value, **lists})


def shard_starts(parts: Sequence[tuple[int, int]], sequences_per_shard: int) -> list[int]:
    """First sequence of every shard: each part (train and eval sequences) begins with a new shard."""
    starts: list[int] = []
    first = 0
    for n_sequences in map(sum, parts):
        starts += range(first, first + n_sequences, sequences_per_shard)
        first += n_sequences
    return starts


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.npy"


def read_index(folder: Path) -> dict[int, ShardRecord]:
    """The finished shards of a folder by number.

    Raises:
        CorruptShard: when the index names a file that is not a shard of the folder.
        DamagedSet: when it cannot be read.
    """
    if not (folder / INDEX).is_file():
        return {}
    try:
        records = [ShardRecord.from_json(record) for record in read_object(folder / INDEX)["shards"]]
        counts = [(one.number, one.first_sequence, one.n_sequences, one.n_bytes) for one in records]
    except (KeyError, TypeError, ValueError, AttributeError):
        counts = [(None,)]  # type: ignore[list-item]
    if any(type(count) is not int for one in counts for count in one):
        raise DamagedSet(f"{folder / INDEX} is damaged: {CACHE_AGAIN}")
    for record in records:
        if record.file != shard_name(record.number):
            raise CorruptShard(f"{folder / INDEX} names {record.file!r:.200}, not a shard; not trusted")
    return {record.number: record for record in records}


def write_index(folder: Path, records: dict[int, ShardRecord]) -> None:
    """Record the finished shards, atomically and durably."""
    shards = [asdict(records[number]) for number in sorted(records)]
    replace_file(folder / INDEX, to_json({"shards": shards}), "shard.index")


def is_intact(folder: Path, record: ShardRecord) -> bool:
    """Whether the shard's file exists with the recorded size and SHA-256."""
    path = folder / record.file
    if not path.is_file() or path.stat().st_size != record.n_bytes:
        return False
    return file_sha256(path) == record.sha256


def shards_digest(records: dict[int, ShardRecord]) -> str:
    """SHA-256 over the SHA-256 of all shards in order."""
    return hashlib.sha256("\n".join(records[n].sha256 for n in sorted(records)).encode()).hexdigest()


class ShardWriter:
    """Writes one shard batch by batch; `finish` makes it durable under its name."""

    def __init__(self, folder: Path, number: int, shape: tuple[int, int, int], dtype: ShardFormat) -> None:
        self.path = folder / shard_name(number)
        self.record = ShardRecord(number, self.path.name, 0, shape[0], 0, "", (), 0.0, 0)
        self._unfinished = temporary_beside(self.path)
        self._sha256 = hashlib.sha256()
        self._file = self._unfinished.open("wb")
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        self._file.flush()
        self._sha256.update(self._unfinished.read_bytes())

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Write the next rows ``(n, context, width)``."""
        fault_point("shard.write")
        content = np.ascontiguousarray(rows).data.cast("B")
        self._file.write(content)
        self._sha256.update(content)

    def finish(self, **counted: Any) -> ShardRecord:
        """Flush to disk and rename; the caller must then add the shard to the index.

        ``counted`` are fields of the record that were counted during writing.
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        n_bytes = self._file.tell()
        self._file.close()
        fault_point("shard.rename")
        self._unfinished.replace(self.path)
        flush_folder(self.path.parent)
        return replace(
            self.record,
            n_bytes=n_bytes,
            sha256=self._sha256.hexdigest(),
            **counted,
        )

    def abandon(self) -> None:
        """Close and remove the unfinished file."""
        self._file.close()
        self._unfinished.unlink(missing_ok=True)
