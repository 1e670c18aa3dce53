"""Packed tokens on disk: one ``.npy`` per array, written in one pass, ``tokens.json`` last."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from catalog.durable import flush_file, make_folder, replace_file, to_json
from catalog.errors import UserError
from tasks.activations.text.packing import ARRAYS, PackedSequence, PackedTokens

RECORD = "tokens.json"
CACHE_AGAIN = "run the pipeline with --stage cache_activations --force"
_ROWS_PER_WRITE = 1_024


class DamagedSet(UserError):
    """A file of an activation set is not what was written; it must be made again, never used."""


def read_object(path: Path, remedy: str = CACHE_AGAIN) -> dict[str, Any]:
    """The object of a JSON file that featlas wrote beside its arrays.

    Raises:
        DamagedSet: when the file cannot be read or holds something else.
    """
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise DamagedSet(f"{path} is damaged: {remedy}")
    return value


class TokenWriter:
    """Appends sequences to the arrays of a folder; memory use is constant."""

    def __init__(self, folder: Path, context_length: int, vocab_size: int) -> None:
        make_folder(folder)
        self.folder = folder
        self.context_length = context_length
        self.vocab_size = vocab_size
        self.n_sequences = 0
        self.n_tokens = 0
        self._waiting: list[PackedSequence] = []
        self._files: dict[str, BinaryIO] = {}
        for name in ARRAYS:
            path = folder / f"{name}.npy"
            path.unlink(missing_ok=True)  # a finished set may share its content
            self._files[name] = path.open("wb")
            self._write_header(name)

    def extend(self, sequences: Iterable[PackedSequence]) -> None:
        """Append sequences.

        Raises:
            UserError: for a token id outside the model's vocabulary.
        """
        for sequence in sequences:
            largest = int(sequence.token_ids.max())
            if largest >= self.vocab_size:
                raise UserError(
                    f"the tokenizer gives the id {largest}, but the model's vocabulary has {self.vocab_size} "
                    "tokens: model and tokenizer do not belong together"
                )
            self._waiting.append(sequence)
            self.n_sequences += 1
            self.n_tokens += sequence.n_filled
            if len(self._waiting) == _ROWS_PER_WRITE:
                self._flush()

    def finish(self, n_train: int, facts: dict[str, Any]) -> None:
        """Make the arrays durable and record them with ``facts``; the folder is then complete."""
        self._flush()
        for name, file in self._files.items():
            file.seek(0)
            self._write_header(name)
            file.flush()
            os.fsync(file.fileno())
            file.close()
        record = {
            **facts,
            "n_sequences": self.n_sequences,
            "n_train": n_train,
            "n_tokens": self.n_tokens,
            "sha256": {name: file_sha256(self.folder / f"{name}.npy") for name in ARRAYS},
        }
        replace_file(self.folder / RECORD, to_json(record), "tokens.record")

    def _flush(self) -> None:
        for name, file in self._files.items():
            for sequence in self._waiting:
                file.write(getattr(sequence, name).data)
        self._waiting.clear()

    def _write_header(self, name: str) -> None:
        """numpy pads headers, so the number of rows can be written later."""
        dtype = np.dtype(np.bool_ if name == "valid" else np.int32)
        header = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": (self.n_sequences, self.context_length),
        }
        np.lib.format.write_array_header_1_0(self._files[name], header)


def write_tokens(folder: Path, tokens: PackedTokens, facts: dict[str, Any]) -> None:
    """Write finished arrays and their record, with ``facts``."""
    make_folder(folder)
    (folder / RECORD).unlink(missing_ok=True)
    for name in ARRAYS:
        path = folder / f"{name}.npy"
        path.unlink(missing_ok=True)
        np.save(path, getattr(tokens, name), allow_pickle=False)
        flush_file(path)
    record = {
        **facts,
        "n_sequences": tokens.n_sequences,
        "n_train": tokens.n_train,
        "later_parts": tokens.later_parts,
        "n_tokens": tokens.n_tokens,
        "sha256": {name: file_sha256(folder / f"{name}.npy") for name in ARRAYS},
    }
    replace_file(folder / RECORD, to_json(record), "tokens.record")


def read_token_record(folder: Path) -> dict[str, Any] | None:
    """The record of complete token files; None if they are incomplete.

    Raises:
        DamagedSet: when the record is damaged.
    """
    if not (folder / RECORD).is_file():
        return None
    record = read_object(folder / RECORD)
    digests = record.get("sha256")
    counted = all(type(record.get(name)) is int for name in ("n_sequences", "n_train"))
    if not counted or not isinstance(digests, dict) or set(digests) != set(ARRAYS):
        raise DamagedSet(f"{folder / RECORD} is damaged: {CACHE_AGAIN}")
    return record


def are_intact(folder: Path) -> bool:
    """Whether a folder holds complete token files with the recorded content (reads every byte)."""
    try:
        return not corrupt_token_files(folder)
    except DamagedSet:
        return False


def open_tokens(folder: Path) -> PackedTokens:
    """The packed tokens of a folder, memory-mapped.

    Raises:
        UserError: when the files are not complete.
        DamagedSet: when one of them cannot be read, or has another number of sequences than the record.
    """
    record = read_token_record(folder)
    if record is None:
        raise UserError(f"{folder} holds no complete token files: run the caching stage again")
    arrays = {name: _array(folder / f"{name}.npy", record["n_sequences"]) for name in ARRAYS}
    try:
        later_parts = tuple((int(n_train), int(n_eval)) for n_train, n_eval in record.get("later_parts", ()))
    except (TypeError, ValueError):
        raise DamagedSet(f"{folder / RECORD} is damaged: {CACHE_AGAIN}") from None
    return PackedTokens(**arrays, n_train=record["n_train"], later_parts=later_parts)


def _array(path: Path, n_sequences: int) -> Any:
    try:
        array = np.load(path, mmap_mode="r" if n_sequences else None, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError):
        array = None
    if array is None or array.ndim != 2 or len(array) != n_sequences:
        raise DamagedSet(f"{path} is damaged: {CACHE_AGAIN}")
    return array


def corrupt_token_files(folder: Path) -> list[str]:
    """Names of the token files whose content differs from the record."""
    record = read_token_record(folder)
    if record is None:
        return [RECORD]
    expected: dict[str, str] = record["sha256"]
    return [name for name, digest in expected.items() if _sha256_or_none(folder / f"{name}.npy") != digest]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256_or_none(path: Path) -> str | None:
    return file_sha256(path) if path.is_file() else None
