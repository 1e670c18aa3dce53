"""Progress of long work, reported to listeners: a terminal, a log, a Prefect artifact, a supervisor."""

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Literal, NamedTuple, TypeVar

T = TypeVar("T")


class Progress(NamedTuple):
    """``done`` of ``total`` units of ``what`` (for example "tokens cached"); a total of 0 means unknown.

    If both are 0, ``what`` says in words what is done now (for example "loading the model").
    """

    what: str
    done: int
    total: int


ProgressListener = Callable[[Progress], None]


class StageEvent(NamedTuple):
    """An event of one unit of work of a run."""

    stage: str
    label: str
    state: Literal["forecast", "started", "working", "ended", "found", "computed", "failed", "interrupted"]
    """Work that started has ended, failed or was interrupted; a unit was found or computed. A forecast says
    in its label what a stage will do."""
    progress: Progress | None = None
    rows: int = 0
    """Rows of all tables, once the unit is found or computed."""
    seconds: float = 0.0
    """Wall time of the computation: so far while it works, of all of it once it is found or computed."""
    error: str = ""


StageListener = Callable[[StageEvent], None]


def silent(progress: Progress) -> None:
    """A listener that does nothing."""


def doing(what: str, listener: ProgressListener) -> None:
    """Say what is done now, before a piece of work that counts nothing."""
    listener(Progress(what, 0, 0))


def ignore_stages(event: StageEvent) -> None:
    """A listener to stages that does nothing."""


def track(
    items: Iterable[T],
    what: str,
    listener: ProgressListener = silent,
    total: int | None = None,
) -> Iterator[T]:
    """Yield ``items`` and report to ``listener`` after each one."""
    n_total = total if total is not None else (len(items) if isinstance(items, Sized) else 0)
    for n_done, item in enumerate(items, start=1):
        yield item
        listener(Progress(what, n_done, n_total))
