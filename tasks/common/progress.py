"""Progress of long work, told to whoever listens: a terminal, a log, a Prefect artifact, a watchdog."""

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Literal, NamedTuple, TypeVar

T = TypeVar("T")


class Progress(NamedTuple):
    """``done`` of ``total`` units of ``what`` (for example "tokens cached"); a total of 0 is not known."""

    what: str
    done: int
    total: int


ProgressListener = Callable[[Progress], None]


class StageEvent(NamedTuple):
    """What happens to one unit of work of a run."""

    stage: str
    label: str
    state: Literal["started", "working", "ended", "found", "computed", "failed", "interrupted"]
    """Work that started has ended, failed or was interrupted; a unit was found or computed."""
    progress: Progress | None = None
    rows: int = 0
    """Rows of all tables, once it is found or computed."""
    seconds: float = 0.0
    """Wall time of the computation, once it is found or computed."""
    error: str = ""


StageListener = Callable[[StageEvent], None]


def silent(progress: Progress) -> None:
    """Listen and say nothing."""


def ignore_stages(event: StageEvent) -> None:
    """Listen to stages and say nothing."""


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
