"""Answers on disk by the digest of the question, so that nothing is paid for twice."""

import json
import os
from pathlib import Path
from typing import Any

from catalog.ids import canonical_json


class PromptCache:
    """One file per answered question; written beside, synced and moved in, so never half there."""

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

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
