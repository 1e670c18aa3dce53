"""Progress of long work, told to whoever listens: a terminal bar, a Prefect artifact, a watchdog."""

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Progress(NamedTuple):
    """``done`` of ``total`` units of ``what`` (for example "tokens cached")."""

    what: str
    done: int
    total: int


ProgressListener = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Listen and say nothing."""


def track(
    items: Iterable[T],
    what: str,
    listener: ProgressListener = silent,
    total: int | None = None,
) -> Iterator[T]:
    """Yield ``items``, telling ``listener`` after each one."""
    n_total = total if total is not None else (len(items) if isinstance(items, Sized) else 0)
    for n_done, item in enumerate(items, start=1):
        yield item
        listener(Progress(what, n_done, n_total))
