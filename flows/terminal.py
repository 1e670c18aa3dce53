"""A progress bar on the terminal: one line per kind of work, on stderr."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from tasks.common.progress import Progress
from tasks.policies import terminal_listener


@contextmanager
def terminal_progress() -> Iterator[None]:
    """Draw the progress of every stage that runs inside."""
    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    known: dict[str, TaskID] = {}

    def draw(progress: Progress) -> None:
        if progress.what not in known:
            known[progress.what] = bars.add_task(progress.what, total=progress.total or None)
        bars.update(known[progress.what], completed=progress.done, total=progress.total or None)

    token = terminal_listener.set(draw)
    try:
        with bars:
            yield
    finally:
        terminal_listener.reset(token)
