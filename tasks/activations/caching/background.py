"""A thread that writes while the model computes: in order, a few arrays waiting at most, errors passed on."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import numpy.typing as npt


class Background:
    """Does jobs one after the other on one thread.

    Leaving the context waits for all of them. What a job raises comes out of the next call, or of leaving
    the context, as if the caller had done it; jobs behind a failed one are not begun. After a failure,
    on either thread, the callables of `on_failure` are called once the thread is idle.
    """

    def __init__(self, n_waiting: int) -> None:
        """Hold at most ``n_waiting`` arrays that are written or wait; a caller with one more waits."""
        self._n_waiting = n_waiting
        self._executor = ThreadPoolExecutor(1, "shard-writer")
        self._writes: deque[Future[None]] = deque()
        self._jobs: deque[Future[None]] = deque()
        self._failed = False
        self._cleanups: list[Callable[[], None]] = []

    def write(self, write: Callable[[npt.NDArray[Any]], None], values: npt.NDArray[Any]) -> None:
        """Queue ``write(values)``; waits while too many arrays are in memory."""
        while len(self._writes) >= self._n_waiting:
            self._writes.popleft().result()
        self._writes.append(self._submit(lambda: write(values)))

    def run(self, job: Callable[[], None]) -> None:
        """Queue a job behind what was queued before; raises what an earlier one raised."""
        while self._jobs and self._jobs[0].done():
            self._jobs.popleft().result()
        self._jobs.append(self._submit(job))

    def on_failure(self, cleanup: Callable[[], None]) -> None:
        """Call this when anything goes wrong."""
        self._cleanups.append(cleanup)

    def _submit(self, job: Callable[[], None]) -> Future[None]:
        def guarded() -> None:
            if self._failed:
                return  # the caller hears of the first failure
            try:
                job()
            except BaseException:
                self._failed = True
                raise

        return self._executor.submit(guarded)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._failed = True  # what still waits is not begun
        self._executor.shutdown(wait=True)
        try:
            if kind is None:
                for future in (*self._writes, *self._jobs):
                    future.result()
        except BaseException:
            self._clean_up()
            raise
        if kind is not None:
            self._clean_up()

    def _clean_up(self) -> None:
        for cleanup in self._cleanups:
            cleanup()
