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
    """``done`` of ``total`` units of ``what``; both are 0 if ``what`` says in words what is done now."""

    what: str
    done: int
    total: int


class HeadwayFile:
    """Writes the progress of one unit: at most every two seconds, and at once if it does something else."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._told_at = float("-inf")
        self._what = ""

    def tell(self, what: str, done: int, total: int) -> None:
        """Record how far the work is, or what it does; ``done`` of an unknown total is not recorded."""
        now = time.monotonic()
        is_soon = what == self._what and now - self._told_at < EVERY_SECONDS
        if is_soon or not _means_something(done, total):
            return
        self._told_at, self._what = now, what
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
    return headway if _means_something(headway.done, headway.total) else None


def _means_something(done: int, total: int) -> bool:
    """Whether it is a share, or words without a count."""
    return total > 0 <= done or done == total == 0
