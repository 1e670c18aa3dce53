"""A sign of life of long work that is silent."""

import contextvars
import threading
import time
from collections.abc import Callable

HEARTBEAT_SECONDS = 4.0
"""Silence after which work is reported again; with the delay of a busy machine below the 5 s promised."""


class Heartbeat:
    """Calls ``beat`` from a thread whenever nothing was noted for ``HEARTBEAT_SECONDS``; a context manager.

    The thread sees the context variables of its creator. No beat follows the end of the block.
    """

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat = beat
        self._changed = threading.Condition()
        self._is_over = False
        self._due = 0.0

    def note(self) -> None:
        """The work itself said something: the next beat is a whole interval away."""
        self._due = time.monotonic() + HEARTBEAT_SECONDS

    def __enter__(self) -> "Heartbeat":
        self.note()
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._work,), name="heartbeat", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify()

    def _work(self) -> None:
        with self._changed:
            while not self._is_over:
                left = self._due - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                else:
                    self.note()
                    self._beat()
