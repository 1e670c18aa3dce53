"""The progress of a run: bars on a terminal, lines elsewhere, JSON for machines."""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TextIO

from catalog.errors import UserError
from flows.board import Board, Working, duration
from tasks.common.progress import StageEvent

LINE_SECONDS = 60.0
VERBOSE_LINE_SECONDS = 10.0
BAR_SECONDS = 0.25
LOGGERS = ("catalog", "tasks", "flows")

LogFormat = Literal["text", "json"]


@dataclass(frozen=True)
class Style:
    """How much progress to show, and in which form."""

    verbosity: int = 0
    """-1: only errors; 0: a line per stage and minute; 1: a line every 10 seconds, and log messages."""
    log_format: LogFormat = "text"
    as_json: bool = False
    """Standard output holds only the summary."""

    @property
    def draws_bars(self) -> bool:
        """Whether a person sits in front of a terminal."""
        return self.verbosity >= 0 and self.log_format == "text" and sys.stderr.isatty()

    @property
    def lines_to(self) -> TextIO | None:
        """Where lines go; None if the bars show everything."""
        if self.verbosity < 0 or (self.draws_bars and (self.as_json or sys.stdout.isatty())):
            return None
        return sys.stderr if self.as_json else sys.stdout


def style_of(quiet: bool, verbose: bool, log_format: LogFormat, as_json: bool) -> Style:
    """The style that the options of a command request.

    Raises:
        UserError: when the options contradict each other.
    """
    if quiet and verbose:
        raise UserError("--quiet and --verbose contradict each other: give one of them")
    return Style(int(verbose) - int(quiet), log_format, as_json)


class Display(Protocol):
    """Something that shows events."""

    def event(self, event: StageEvent) -> None: ...
    def tick(self) -> None: ...
    def say(self, level: str, text: str) -> None: ...
    def close(self) -> None: ...


class Lines:
    """A line when a unit starts, when it ends, and once a minute in between."""

    def __init__(self, stream: TextIO, log_format: LogFormat, every_seconds: float) -> None:
        self.tick_seconds = every_seconds
        self._stream, self._format = stream, log_format
        self._board, self._lock = Board(), threading.Lock()

    def event(self, event: StageEvent) -> None:
        with self._lock:
            self._board.note(event)
        facts: dict[str, Any] = {"stage": event.stage, "label": event.label}
        if event.state in ("found", "computed"):
            facts |= {"rows": event.rows, "seconds": round(event.seconds, 3)}
            self._write(event.state, facts, f"{event.rows:,} rows, {duration(event.seconds)}")
        elif event.state in ("forecast", "started", "failed", "interrupted"):
            self._write(event.state, facts | ({"error": event.error} if event.error else {}), event.error)

    def tick(self) -> None:
        with self._lock:
            working = list(self._board.working.values())
        for one in working:
            self._write("working", _facts(one), _said(one))

    def say(self, level: str, text: str) -> None:
        self._write(level, {"message": text}, text)

    def close(self) -> None:
        self._stream.flush()

    def _write(self, state: str, facts: dict[str, Any], text: str) -> None:
        now = datetime.now(UTC)
        if self._format == "json":
            line = json.dumps({"at": now.isoformat(timespec="milliseconds"), "state": state, **facts})
        else:
            what = " ".join(str(facts[name]) for name in ("stage", "label") if facts.get(name))
            line = f"{now:%H:%M:%S} {state:<9} {what}".rstrip()
            line += f": {text}" if text and what else text and f" {text}"
        print(line, file=self._stream, flush=True)


class Bars:
    """A bar per unit in progress, with the amount done, the time so far and the time left."""

    tick_seconds = BAR_SECONDS

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
        from rich.table import Column

        name = Column(ratio=2, no_wrap=True, overflow="ellipsis")
        said = Column(ratio=2, no_wrap=True, overflow="ellipsis")
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", table_column=name, markup=False),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[said]}", table_column=said, markup=False),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            expand=True,
        )
        self._board, self._lock = Board(), threading.Lock()
        self._ids: dict[tuple[str, str], TaskID] = {}
        self._bars.start()

    def event(self, event: StageEvent) -> None:
        with self._lock:
            self._board.note(event)
        if event.state != "working":
            self.tick()
        if event.state in ("found", "computed"):
            text = f"{event.rows:,} rows, {duration(event.seconds)}"
            self.say(event.state, f"{event.stage} {event.label}: {text}")
        elif event.state in ("failed", "interrupted"):
            self.say(event.state, f"{event.stage} {event.label}: {event.error}")
        elif event.state == "forecast":
            self.say(event.state, f"{event.stage} {event.label}")

    def tick(self) -> None:
        with self._lock:
            working = dict(self._board.working)
            for key in self._ids.keys() - working.keys():
                self._bars.remove_task(self._ids.pop(key))
            for key, one in working.items():
                if key not in self._ids:
                    self._ids[key] = self._bars.add_task(
                        f"{one.stage} {one.label}".rstrip(), total=None, said=""
                    )
                done, total = (one.progress.done, one.progress.total) if one.progress else (0, 0)
                self._bars.update(
                    self._ids[key], completed=done, total=total or None, said=_said(one, brief=True)
                )

    def say(self, level: str, text: str) -> None:
        self._bars.console.print(f"{level:<9} {text}", markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._bars.stop()


class _LogHandler(logging.Handler):
    """Shows featlas' log messages on the displays."""

    def __init__(self, displays: list[Display], level: int) -> None:
        super().__init__(level)
        self._displays = displays

    def emit(self, record: logging.LogRecord) -> None:
        for display in self._displays:
            display.say(record.levelname.lower(), " ".join(record.getMessage().split()))


class Shown:
    """The displays of a run; an event goes to all of them."""

    def __init__(self, style: Style) -> None:
        self._style = style
        self._displays: list[Display] = []
        self._closing = threading.Event()
        if style.draws_bars:
            self._show(Bars())

    def begin_lines(self) -> None:
        """Write lines from now on: the request is checked and work starts."""
        stream = self._style.lines_to
        if stream is not None:
            every = VERBOSE_LINE_SECONDS if self._style.verbosity > 0 else LINE_SECONDS
            self._show(Lines(stream, self._style.log_format, every))

    def event(self, event: StageEvent) -> None:
        """Show an event of a unit of work."""
        for display in self._displays:
            display.event(event)

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Show an action of the run before its first stage."""
        self.event(StageEvent(what, "", "started"))
        try:
            yield
        finally:
            self.event(StageEvent(what, "", "ended"))

    def close(self) -> None:
        """Stop showing anything."""
        self._closing.set()
        for display in self._displays:
            display.close()

    @property
    def displays(self) -> list[Display]:
        return self._displays

    def _show(self, display: Any) -> None:
        self._displays.append(display)
        threading.Thread(target=self._keep_ticking, args=(display,), daemon=True).start()

    def _keep_ticking(self, display: Any) -> None:
        while not self._closing.wait(display.tick_seconds):
            display.tick()


@contextmanager
def shown(style: Style) -> Iterator[Shown]:
    """Show what runs inside, in the given style."""
    with ExitStack() as stack:
        show = Shown(style)
        stack.callback(show.close)
        level = {-1: logging.ERROR, 0: logging.WARNING}.get(style.verbosity, logging.INFO)
        handler = _LogHandler(show.displays, level)
        for name in LOGGERS:
            logging.getLogger(name).addHandler(handler)
            stack.callback(logging.getLogger(name).removeHandler, handler)
            if level < logging.WARNING:
                logging.getLogger(name).setLevel(level)
        yield show


def _said(one: Working, *, brief: bool = False) -> str:
    left = one.seconds_left
    parts = [one.amount, "" if left is None else f"{duration(left)} left"]
    if not brief:
        parts.append(f"{duration(one.seconds)} so far")
    return ", ".join(part for part in parts if part)


def _facts(one: Working) -> dict[str, Any]:
    left = one.seconds_left
    facts: dict[str, Any] = {"stage": one.stage, "label": one.label, "seconds": round(one.seconds, 1)}
    if one.progress is not None:
        facts |= {"what": one.progress.what, "done": one.progress.done, "total": one.progress.total}
    return facts | ({} if left is None else {"seconds_left": round(left, 1)})
