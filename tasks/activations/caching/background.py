"""A thread that writes while the model computes: in order, with a bounded queue, errors passed on."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import numpy.typing as npt


class Background:
    """Runs jobs one after the other on one thread.

    Leaving the context waits for all jobs. An error of a job is raised by the next call, or when the
    context is left, as if the caller had caused it; jobs after a failed one do not start. After a failure
    on either thread, the callables of `on_failure` are called once the thread is idle.
    """

    def __init__(self, n_waiting: int) -> None:
        """Hold at most ``n_waiting`` arrays that are being written or wait; a caller with one more waits."""
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
        """Queue a job after the earlier ones; raise the error of an earlier job."""
        while self._jobs and self._jobs[0].done():
            self._jobs.popleft().result()
        self._jobs.append(self._submit(job))

    def on_failure(self, cleanup: Callable[[], None]) -> None:
        """Call this function if anything fails."""
        self._cleanups.append(cleanup)

    def _submit(self, job: Callable[[], None]) -> Future[None]:
        def guarded() -> None:
            if self._failed:
                return  # the caller gets the first failure
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
            self._failed = True  # jobs in the queue do not start
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
