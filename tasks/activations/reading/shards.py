"""A cached activation set, read from disk: memory-mapped tokens and shards, every shard checked once.

Shapes: S sequences, T context, D width.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from catalog.errors import UserError
from catalog.schemas import Split
from tasks.activations.reading.shard_files import (
    CorruptShard,
    ShardRecord,
    is_intact,
    read_index,
    shard_starts,
)
from tasks.activations.text.packing import BoolArray, PackedTokens
from tasks.activations.text.token_files import (
    CACHE_AGAIN,
    DamagedSet,
    corrupt_token_files,
    open_tokens,
    read_object,
)

__all__ = ["META", "TOKENS", "ActivationSet", "CorruptShard"]

META = "meta.json"
TOKENS = "tokens"
_OPEN_SHARDS = 128
_NUMBERS = ("n_sequences", "context_length", "d_in", "n_shards", "sequences_per_shard")
_TEXTS = ("hookpoint", "dtype", "model_id", "tokenizer_digest", "weights_digest")

Rows = npt.NDArray[np.integer[Any]] | Sequence[int]


class ActivationSet:
    """Activations of one hookpoint with the tokens they belong to; open with `ActivationSet.open`."""

    def __init__(self, folder: Path, meta: dict[str, Any], tokens: PackedTokens) -> None:
        self.folder = folder
        self.meta = meta
        """What ``meta.json`` says: model, corpus, configuration, counts, norm, digest."""
        self.tokens = tokens
        """The packed tokens; ``valid`` leaves out tokens with non-finite activations."""
        self.shards: dict[int, ShardRecord] = read_index(folder)
        self._open: OrderedDict[int, npt.NDArray[Any]] = OrderedDict()
        self._checked: set[int] = set()

    @classmethod
    def open(cls, folder: Path | str) -> "ActivationSet":
        """Open a finished set.

        Raises:
            UserError: when the folder holds none.
            DamagedSet: when one of its files cannot be read, or they contradict each other.
        """
        folder = Path(folder)
        if not (folder / META).is_file():
            raise UserError(f"{folder} holds no finished activation set: run the caching stage again")
        meta, tokens = read_object(folder / META), open_tokens(folder / TOKENS)
        numbers = [meta.get(name) for name in _NUMBERS]
        sound = all(type(number) is int and number >= 0 for number in numbers)
        sound = sound and all(isinstance(meta.get(name), str) for name in _TEXTS)
        shape = (meta.get("n_sequences"), meta.get("context_length"))
        if not sound or meta["dtype"] not in ("float16", "float32") or shape != tokens.valid.shape:
            raise DamagedSet(f"{folder / META} is damaged: {CACHE_AGAIN}")
        return cls(folder, meta, tokens)

    @property
    def n_sequences(self) -> int:
        return int(self.meta["n_sequences"])

    @property
    def context_length(self) -> int:
        return int(self.meta["context_length"])

    @property
    def d_in(self) -> int:
        return int(self.meta["d_in"])

    @property
    def hookpoint(self) -> str:
        return str(self.meta["hookpoint"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Number format of the shards."""
        return np.dtype(str(self.meta["dtype"]))

    @property
    def massive(self) -> BoolArray:
        """Tokens of massive norm, dropped or not: (S, T). None for a set cached before they were counted."""
        mask_ST = np.zeros((self.n_sequences, self.context_length), dtype=bool)
        for record in self.shards.values():
            flat = record.first_sequence * self.context_length + np.array(record.massive, dtype=np.int64)
            mask_ST.reshape(-1)[flat] = True
        return mask_ST

    def sequence_rows(self, split: Split | None = None) -> npt.NDArray[np.int64]:
        """Indices of the sequences of a split, or of all."""
        return self.tokens.sequence_rows(split)

    def n_valid_tokens(self, split: Split | None = None) -> int:
        """Tokens of a split that training, metrics and mining use."""
        return int(np.count_nonzero(self.tokens.valid[self.sequence_rows(split)]))

    def read(self, rows: Rows) -> npt.NDArray[Any]:
        """Activations ``(len(rows), T, D)`` of sequences in the requested order, in the stored format.

        Raises:
            CorruptShard: when a shard that holds them is damaged.
            IndexError: for a sequence that the set does not have.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= self.n_sequences):
            raise IndexError(f"sequences {wanted.min()} to {wanted.max()} of {self.n_sequences}")
        values = np.empty((wanted.size, self.context_length, self.d_in), self.dtype)
        first_N = np.asarray(shard_starts(self.tokens.parts, int(self.meta["sequences_per_shard"])))
        shard_of = np.searchsorted(first_N, wanted, side="right") - 1
        for number in np.unique(shard_of):
            places = np.flatnonzero(shard_of == number)
            values[places] = self._shard(int(number))[wanted[places] - first_N[number]]
        return values

    def batches(
        self, rows: Rows, sequences_per_batch: int
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[Any], BoolArray]]:
        """Yield ``(rows (n,), activations (n, T, D), valid (n, T))`` in the order of ``rows``."""
        wanted = np.asarray(rows, dtype=np.int64)
        for start in range(0, wanted.size, sequences_per_batch):
            chosen = wanted[start : start + sequences_per_batch]
            yield chosen, self.read(chosen), np.asarray(self.tokens.valid[chosen])

    def corrupt_shards(self) -> list[int]:
        """Numbers of the shards whose file is missing, short or altered (reads every byte)."""
        expected = range(int(self.meta["n_shards"]))
        damaged = [n for n in expected if n not in self.shards or not is_intact(self.folder, self.shards[n])]
        self._checked = set(expected).difference(damaged)
        for number in damaged:
            self._open.pop(number, None)
        return damaged

    def verify(self) -> list[str]:
        """One sentence per damaged file; empty if there is none (reads every byte)."""
        faults = [
            f"{self.folder / TOKENS / name} is damaged" for name in corrupt_token_files(self.folder / TOKENS)
        ]
        shards = [f"shard {n} of {self.folder} is damaged or missing" for n in self.corrupt_shards()]
        return faults + shards

    def check_tokenizer(self, tokenizer_digest: str) -> None:
        """Refuse to mix these tokens with another tokenizer.

        Raises:
            UserError: when the digests differ.
        """
        if tokenizer_digest != self.meta["tokenizer_digest"]:
            raise UserError(
                f"the tokenizer of model {self.meta['model_id']!r} is not the one with which the activations "
                "were cached: restore it, or run the caching stage again"
            )

    def _shard(self, number: int) -> npt.NDArray[Any]:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        record = self.shards.get(number)
        if record is None or (number not in self._checked and not is_intact(self.folder, record)):
            raise CorruptShard(
                f"shard {number} of {self.folder} is damaged or missing: run the caching stage again, "
                "it recomputes only the damaged shards"
            )
        self._checked.add(number)
        self._open[number] = np.load(self.folder / record.file, mmap_mode="r", allow_pickle=False)
        if len(self._open) > _OPEN_SHARDS:
            self._open.popitem(last=False)
        return self._open[number]
