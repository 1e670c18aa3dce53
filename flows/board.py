"""The units of work that a run computes now, and the time that each still needs."""

import time
from dataclasses import dataclass, field

from tasks.common.progress import Progress, StageEvent

SETTLING_SECONDS = 2.0
"""Seconds to observe progress before a rate is shown."""


@dataclass
class Working:
    """One unit of work in progress."""

    stage: str
    label: str
    started: float = field(default_factory=time.monotonic)
    progress: Progress | None = None
    first: Progress | None = None
    """The first report of the same kind of work; the rate counts from there."""
    first_at: float = 0.0

    def note(self, progress: Progress) -> None:
        """Take the newest report; another kind of work starts a new count."""
        if self.first is None or self.first.what != progress.what or progress.done < self.first.done:
            self.first, self.first_at = progress, time.monotonic()
        self.progress = progress

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return time.monotonic() - self.started

    @property
    def seconds_left(self) -> float | None:
        """Estimated wall time that this kind of work still needs; None if it cannot be estimated."""
        now, progress, first = time.monotonic(), self.progress, self.first
        if progress is None or first is None or progress.total <= 0 or progress.done <= first.done:
            return None
        watched = now - self.first_at
        if watched < SETTLING_SECONDS:
            return None
        return watched / (progress.done - first.done) * max(0, progress.total - progress.done)

    @property
    def amount(self) -> str:
        """The amount done, for example ``136,000 of 400,000 tokens cached (34 %)``, or only words."""
        if self.progress is None:
            return ""
        what, done, total = self.progress
        if total <= 0:
            return f"{done:,} {what}" if done else what
        return f"{done:,} of {total:,} {what} ({100 * min(done, total) // total} %)"


class Board:
    """The units of work in progress, in the order in which they started."""

    def __init__(self) -> None:
        self.working: dict[tuple[str, str], Working] = {}

    def note(self, event: StageEvent) -> None:
        """Update the board from an event."""
        key = (event.stage, event.label)
        if event.state == "started":
            self.working[key] = Working(event.stage, event.label)
        elif event.state == "working" and event.progress is not None:
            self.working.setdefault(key, Working(event.stage, event.label)).note(event.progress)
        elif event.state in ("ended", "failed", "interrupted"):
            self.working.pop(key, None)


def duration(seconds: float) -> str:
    """Seconds in a readable form: ``12 s``, ``3 min``, ``2 h 05 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
