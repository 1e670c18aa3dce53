"""What the units of work of a run are doing now, and how long each still needs."""

import time
from dataclasses import dataclass, field

from tasks.common.progress import Progress, StageEvent

SETTLING_SECONDS = 2.0
"""A rate is told once it was watched for so long."""


@dataclass
class Working:
    """One unit of work that has begun."""

    stage: str
    label: str
    started: float = field(default_factory=time.monotonic)
    progress: Progress | None = None
    first: Progress | None = None
    """The first progress of the same kind of work; the rate counts from there."""
    first_at: float = 0.0

    def note(self, progress: Progress) -> None:
        """Take the newest progress; another kind of work begins a new count."""
        if self.first is None or self.first.what != progress.what or progress.done < self.first.done:
            self.first, self.first_at = progress, time.monotonic()
        self.progress = progress

    @property
    def seconds(self) -> float:
        """Wall time since it began."""
        return time.monotonic() - self.started

    @property
    def seconds_left(self) -> float | None:
        """Wall time that the present kind of work still needs at its rate so far; None if nobody knows."""
        now, progress, first = time.monotonic(), self.progress, self.first
        if progress is None or first is None or progress.total <= 0 or progress.done <= first.done:
            return None
        watched = now - self.first_at
        if watched < SETTLING_SECONDS:
            return None
        return watched / (progress.done - first.done) * max(0, progress.total - progress.done)

    @property
    def amount(self) -> str:
        """How far it is, for example ``136,000 of 400,000 tokens cached (34 %)``."""
        if self.progress is None:
            return ""
        what, done, total = self.progress
        if total <= 0:
            return f"{done:,} {what}"
        return f"{done:,} of {total:,} {what} ({100 * min(done, total) // total} %)"


class Board:
    """The units of work that are going on, in the order in which they began."""

    def __init__(self) -> None:
        self.working: dict[tuple[str, str], Working] = {}

    def note(self, event: StageEvent) -> None:
        """Keep up with what happens."""
        key = (event.stage, event.label)
        if event.state == "started":
            self.working[key] = Working(event.stage, event.label)
        elif event.state == "working" and event.progress is not None:
            self.working.setdefault(key, Working(event.stage, event.label)).note(event.progress)
        elif event.state in ("ended", "failed", "interrupted"):
            self.working.pop(key, None)


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``12 s``, ``3 min``, ``2 h 05 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
