"""Stages that wait for an endpoint: the run continues with other work and resumes them at its end."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from catalog.ledger import StageOutcome
from tasks.common.progress import Progress
from tasks.support.policies import UnitKey, progress_listener

MOST_SECONDS = 24 * 3600.0
"""The next nightly run asks again."""
MOST_TRIES_IN_VAIN = 3
"""An endpoint that answers nothing three times over is down, not busy."""
TICK_SECONDS = 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parked:
    """Work that an endpoint asked to postpone."""

    label: str
    resume_at: datetime
    n_left: int
    work: Callable[[], object]


@dataclass
class Parking:
    """The postponed work of one run."""

    waiting: list[Parked] = field(default_factory=list)
    _n_left: dict[str, int] = field(default_factory=dict)
    _n_in_vain: dict[str, int] = field(default_factory=dict)

    def add(self, label: str, outcome: StageOutcome, work: Callable[[], object]) -> bool:
        """Keep ``work`` for later if an endpoint postponed its stage and said until when.

        Returns:
            Whether it is kept. Work that made no progress three times in a row is not.
        """
        resume_at = outcome.facts.get("resume_at")
        if resume_at is None:
            return False
        n_left = int(outcome.facts["n_left"]) + int(outcome.facts["n_failed"])
        is_in_vain = n_left >= self._n_left.get(label, n_left + 1)
        self._n_in_vain[label] = self._n_in_vain.get(label, 0) + 1 if is_in_vain else 0
        self._n_left[label] = n_left
        if self._n_in_vain[label] >= MOST_TRIES_IN_VAIN:
            return False
        self.waiting.append(Parked(label, datetime.fromisoformat(resume_at), n_left, work))
        return True

    def finish(self, most_seconds: float = MOST_SECONDS) -> None:
        """Run the postponed work, earliest first, each at its time; leave work due after ``most_seconds``."""
        deadline = time.monotonic() + most_seconds
        while self.waiting:
            parked = min(self.waiting, key=lambda one: one.resume_at)
            self.waiting.remove(parked)
            seconds = (parked.resume_at - datetime.now(UTC)).total_seconds()
            if time.monotonic() + seconds > deadline:
                logger.warning("%s is left for a later run: %s", parked.label, parked.resume_at.isoformat())
                continue
            _wait(parked, seconds)
            parked.work()


def _wait(parked: Parked, seconds: float) -> None:
    """Sleep, and report how long it takes."""
    started = time.monotonic()
    logger.info("%s waits %.0f s for its endpoint", parked.label, seconds)
    with progress_listener(UnitKey("wait_for_endpoint", 1, parked.label, {})) as listener:
        while (left := started + seconds - time.monotonic()) > 0:
            time.sleep(min(left, TICK_SECONDS))
            done = min(time.monotonic() - started, seconds)
            listener(Progress("seconds waited for the endpoint", int(done), max(int(seconds), 1)))
