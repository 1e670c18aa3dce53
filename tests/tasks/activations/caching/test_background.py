"""Jobs run in order, a failure reaches the caller, and nothing behind it is begun."""

import threading

import numpy as np
import pytest

from tasks.activations.caching.background import Background


def test_jobs_run_in_order_and_are_done_at_the_end() -> None:
    done: list[int] = []
    with Background(2) as background:
        for number in range(20):
            background.write(lambda values: done.append(int(values[0])), np.array([number]))
            background.run(lambda number=number: done.append(-number))  # type: ignore[misc]
    assert done == [sign * number for number in range(20) for sign in (1, -1)]


def test_no_more_arrays_wait_than_allowed() -> None:
    release, entered = threading.Event(), threading.Semaphore(0)

    def slow(_values: object) -> None:
        release.wait(10)

    def feed(background: Background) -> None:
        for _ in range(3):
            background.write(slow, np.zeros(1))
            entered.release()

    with Background(2) as background:
        feeder = threading.Thread(target=feed, args=(background,))
        feeder.start()
        assert entered.acquire(timeout=10)
        assert entered.acquire(timeout=10)
        assert not entered.acquire(timeout=0.2)  # the third array has to wait
        release.set()
        feeder.join(10)
        assert entered.acquire(timeout=10)


@pytest.mark.parametrize("n_later", [0, 10])
def test_failure_of_a_job_reaches_the_caller(n_later: int) -> None:
    done: list[str] = []

    def work() -> None:
        with Background(2) as background:
            background.on_failure(lambda: done.append("cleaned"))
            background.write(_full, np.zeros(1))
            for _ in range(n_later):
                background.write(lambda _values: done.append("written"), np.zeros(1))
            background.run(lambda: done.append("landed"))

    with pytest.raises(OSError, match="disk full"):
        work()
    assert done == ["cleaned"]


def test_failure_of_the_caller_ends_what_waits() -> None:
    cleaned: list[str] = []

    def work() -> None:
        with Background(2) as background:
            background.on_failure(lambda: cleaned.append("cleaned"))
            raise KeyError("caller")

    with pytest.raises(KeyError):
        work()
    assert cleaned == ["cleaned"]


def _full(_values: object) -> None:
    raise OSError("disk full")
