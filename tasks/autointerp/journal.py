"""A journal of finished work in a scratch folder: one JSON line per unit, durable before it counts."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from catalog.ids import canonical_json


class Journal:
    """Finished units by key; a kill at any moment loses at most the last batch.

    ``sync_seconds`` is the longest time until a record is on disk: 0 if the record cost money, more if it is
    cheap to compute again. Opening the journal cuts off an incomplete last line.
    """

    def __init__(self, path: Path, *, sync_seconds: float = 0.0) -> None:
        self.path = path
        self.sync_seconds = sync_seconds
        self._offsets: dict[str, int] = {}
        self._mend()
        self._file = path.open("ab")
        self._synced_at = time.monotonic()

    def __contains__(self, key: str) -> bool:
        return key in self._offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def append(self, key: str, record: dict[str, Any]) -> None:
        """Add a finished unit; an existing key keeps its record."""
        if key in self._offsets:
            return
        self._offsets[key] = self._file.tell()
        self._file.write((canonical_json({"key": key, **record}) + "\n").encode())
        if time.monotonic() - self._synced_at >= self.sync_seconds:
            self.sync()

    def sync(self) -> None:
        """Wait until everything appended is on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._synced_at = time.monotonic()

    def records(self) -> Iterator[dict[str, Any]]:
        """Every record, in the order of the keys."""
        self._file.flush()
        with self.path.open("rb") as file:
            for key in sorted(self._offsets):
                file.seek(self._offsets[key])
                yield json.loads(file.readline())

    def record(self, key: str) -> dict[str, Any]:
        """The record of one key; raises ``KeyError`` if there is none."""
        self._file.flush()
        with self.path.open("rb") as file:
            file.seek(self._offsets[key])
            record: dict[str, Any] = json.loads(file.readline())
        return record

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        self._file.close()

    def _mend(self) -> None:
        """Read the existing lines and cut off one that was being written when the writer died."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            self.path.touch()
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
            return
        with self.path.open("r+b") as file:
            good = 0
            for line in iter(file.readline, b""):
                key = _key_of(line)
                if key is None:
                    break
                self._offsets.setdefault(key, good)
                good += len(line)
            file.truncate(good)


def _key_of(line: bytes) -> str | None:
    """The key of a complete line, None for an incomplete one."""
    if not line.endswith(b"\n"):
        return None
    try:
        return str(json.loads(line)["key"])
    except (ValueError, KeyError, TypeError):
        return None
