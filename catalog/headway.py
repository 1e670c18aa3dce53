"""Progress of a unit of work: a small file in its working folder, which the pages show.

Nothing depends on it: it is not flushed, a failed write is ignored, and a damaged file counts as absent.
"""

import contextlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

from catalog.errors import CatalogueError
from catalog.untrusted import read_json

FILE = "headway.json"
EVERY_SECONDS = 2.0


@dataclass(frozen=True)
class Headway:
    """``done`` of ``total`` units of ``what``."""

    what: str
    done: int
    total: int


class HeadwayFile:
    """Writes the progress of one unit, at most every two seconds."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._told_at = float("-inf")

    def tell(self, what: str, done: int, total: int) -> None:
        """Record how far the work is; a total of 0 means unknown and is not recorded."""
        now = time.monotonic()
        if total <= 0 or now - self._told_at < EVERY_SECONDS:
            return
        self._told_at = now
        fresh = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
            fresh.write_text(json.dumps([what, done, total]), encoding="utf-8")
            fresh.replace(self._path)

    def remove(self) -> None:
        """Delete the file."""
        for path in (self._path, self._path.with_suffix(".new")):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def read_headway(folder: Path) -> Headway | None:
    """Progress of the unit with this working folder; None if it is unknown."""
    try:
        what, done, total = read_json(folder / FILE)
        headway = Headway(str(what), int(done), int(total))
    except (FileNotFoundError, CatalogueError, ValueError, TypeError, OverflowError):
        return None
    return headway if headway.total > 0 and headway.done >= 0 else None
