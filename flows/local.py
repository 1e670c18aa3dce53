"""Run a flow in this process for the command line: show its progress, end it cleanly on a signal."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from flows.engine import connect_engine
from flows.terminal import Shown, Style, shown

INTERRUPTED = "interrupted, run again to go on"
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived while no flow was running."""


def run_here(
    check: Callable[[], object],
    call: Callable[[], dict[str, Any]],
    finish: Callable[[dict[str, Any]], None],
    style: Style,
) -> int:
    """Check a request, run a flow with a Prefect server, show its progress, and report how it ended.

    Args:
        check: Refuses a wrong request before any work.
        call: Imports the flow and calls it; returns its summary.
        finish: Prints the summary.
        style: What to show while it runs.

    Returns:
        0 if every stage completed, 1 if one failed, 130 or 143 after Ctrl-C or SIGTERM.

    Raises:
        UserError: for a wrong request, or when there is no Prefect server to run with.
    """
    with _sigterm_raises():
        try:
            with shown(style) as show:
                with show.doing("reading the request"):
                    check()
                show.begin_lines()
                errors_on_console()
                with show.doing("starting the Prefect server"):
                    connect_engine()
                code, summary = _called(call, show)
            if summary is not None:
                finish(summary)
        except KeyboardInterrupt as error:
            code = _interrupted(error)
    _leave_server(code)
    return code


def errors_on_console() -> None:
    """Keep Prefect's log off the console: featlas reports errors once, at the end.

    That a line of the log did not reach a server that is gone is no news either.
    """
    is_debugging = bool(os.environ.get("FEATLAS_DEBUG"))
    logging.raiseExceptions = is_debugging
    level = "INFO" if is_debugging else "CRITICAL"
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", level)
    os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", level)


def _called(call: Callable[[], dict[str, Any]], show: Shown) -> tuple[int, dict[str, Any] | None]:
    """The exit code and the summary of the flow; raise an error that is not one of its endings."""
    with show.doing("loading"):
        from prefect.exceptions import CancelledRun, TerminationSignal

        from flows.endings import causes_of
        from flows.reports import StagesFailed
        from tasks.support.policies import stage_listener
        from tasks.support.reporting import ServerLost

    token = stage_listener.set(show.event)
    try:
        summary = call()
    except BaseException as error:
        for cause in causes_of(error):
            if isinstance(cause, KeyboardInterrupt | TerminationSignal | CancelledRun):
                return _interrupted(cause), None
            if isinstance(cause, StagesFailed):
                return EXIT_FAILED, cause.summary
            if isinstance(cause, ServerLost):
                print(f"featlas: {cause}", file=sys.stderr)
                return EXIT_FAILED, None
        raise
    finally:
        stage_listener.reset(token)
    return (0 if summary["state"] == "completed" else EXIT_FAILED), summary


def _interrupted(error: BaseException) -> int:
    print(f"featlas: {INTERRUPTED}", file=sys.stderr)
    is_sigterm = type(error).__name__ == "TerminationSignal" or isinstance(error, Terminated)
    return EXIT_TERMINATED if is_sigterm else EXIT_INTERRUPTED


def _leave_server(code: int) -> None:
    """End now when the server is gone: Prefect would retry for minutes to send it events and logs."""
    if "prefect" not in sys.modules or not os.environ.get("PREFECT_API_URL"):
        return
    from flows.endings import server_answers

    if not server_answers():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM ends what runs inside as Ctrl-C does; Prefect has its own handler while a flow runs."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
