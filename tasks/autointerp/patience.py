"""How long to try: waits that the endpoint asks for, growing pauses, and the point at which to stop."""

import asyncio
import secrets
import time

from aiolimiter import AsyncLimiter

from tasks.autointerp.chat import Stopped
from tasks.autointerp.endpoint import EndpointProfile

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 20.0
SHORT_WAIT_SECONDS = 5.0


class Patience:
    """Shared by all questions to one endpoint within one event loop."""

    def __init__(self, profile: EndpointProfile) -> None:
        self.profile = profile
        self.stopped: Stopped | None = None
        self.last_error: str | None = None
        rate = profile.requests_per_minute
        self._limiter = AsyncLimiter(1, 60 / rate) if rate else None
        self._parked_until = 0.0
        self._n_failed = 0

    def check(self) -> None:
        """Raise `Stopped` if further questions are pointless."""
        if self.stopped is not None:
            raise self.stopped

    async def turn(self) -> float:
        """Wait until a request may be sent; return the seconds waited."""
        started = time.monotonic()
        while (seconds := self._parked_until - time.monotonic()) > 0:
            self.check()
            await asyncio.sleep(seconds)
        self.check()
        if self._limiter is not None:
            await self._limiter.acquire()
        return time.monotonic() - started

    def park(self, wait_seconds: float | None) -> bool:
        """Hold back all requests if the endpoint asks for more than a short wait.

        Raises:
            Stopped: when it asks for a longer wait than the profile allows.
        """
        if wait_seconds is None or wait_seconds <= SHORT_WAIT_SECONDS:
            return False
        if wait_seconds > self.profile.max_wait_seconds:
            raise Stopped(
                f"endpoint {self.profile.name!r} asks to wait {wait_seconds:.0f} s: run again after that",
                wait_seconds if wait_seconds <= self.profile.max_parked_seconds else None,
            )
        self._parked_until = max(self._parked_until, time.monotonic() + wait_seconds)
        return True

    async def pause(self, n_try: int, wait_seconds: float | None, deadline: float) -> None:
        """Wait before the next try, longer each time, never past the deadline."""
        jitter = 0.5 + secrets.randbelow(500) / 1000
        backoff = min(FIRST_BACKOFF_SECONDS * 2**n_try, LONGEST_BACKOFF_SECONDS) * jitter
        seconds = backoff if wait_seconds is None else wait_seconds
        await asyncio.sleep(max(0.0, min(seconds, deadline - time.monotonic())))

    def count(self, error: str | None) -> None:
        """Count a failed question, or with None an answered one; too many failures in a row stop the rest."""
        self._n_failed = self._n_failed + 1 if error is not None else 0
        self.last_error = error or self.last_error
        if self._n_failed >= self.profile.breaker_errors:
            self.stopped = Stopped(
                f"endpoint {self.profile.name!r} failed {self._n_failed} questions in a row (last: {error}): "
                "check that it is running, and run again"
            )
