"""Answers on disk by the digest of the question, so that nothing is paid for twice."""

import json
import os
from pathlib import Path
from typing import Any

from catalog.ids import canonical_json

KEPT = ("ok", "refused", "filtered")
"""Outcomes that would be the same if the question were asked again."""


class PromptCache:
    """One file per answered question; written to a temporary name, synced and renamed, so always complete."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> dict[str, Any] | None:
        """What `put` stored, or None; a damaged file counts as none."""
        try:
            plain = json.loads(self._path(key).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return plain if isinstance(plain, dict) and plain.get("key") == key else None

    def put(self, key: str, entry: dict[str, Any]) -> None:
        """Store an answer for good."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        with temporary.open("wb") as file:
            file.write(canonical_json({"key": key, **entry}).encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def remove(self, key: str) -> bool:
        """Delete an answer; return whether there was one."""
        path = self._path(key)
        found = path.is_file()
        path.unlink(missing_ok=True)
        return found

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


class Answers:
    """The cached answers that a unit of work may use.

    A deliberate answer of the model (`KEPT`) is shared with every later unit. An unusable reply is stored
    only for this unit: a killed attempt does not pay for it twice, and the next unit asks a repaired server
    again. An
    ``error`` is never stored.
    """

    def __init__(self, shared: PromptCache, own: PromptCache | None = None, *, forced: bool = False) -> None:
        """
        Args:
            shared: Answers of all units.
            own: Answers of this unit; deleted when the unit is done.
            forced: Whether the unit is repeated on request; then only valid shared answers count.
        """
        self._shared = shared
        self._own = own
        self._from_others = ("ok",) if forced else KEPT

    def get(self, key: str) -> dict[str, Any] | None:
        """The answer to a question, or None if it must be asked."""
        own = self._own.get(key) if self._own is not None else None
        if own is not None:
            return own
        shared = self._shared.get(key)
        return shared if shared and shared["record"]["outcome"] in self._from_others else None

    def put(self, key: str, entry: dict[str, Any]) -> None:
        """Keep an answer for as long as its outcome allows."""
        outcome = entry["record"]["outcome"]
        if outcome in KEPT:
            self._shared.put(key, entry)
        if outcome not in ("ok", "error") and self._own is not None:
            self._own.put(key, entry)
