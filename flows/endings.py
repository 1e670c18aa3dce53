"""How a run ends: the reason of an interruption, and no wait for a server that does not answer."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException, TerminationSignal
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelled

from catalog.schemas.values import RunState
from flows.local import INTERRUPTED
from tasks.support.reporting import Reporter, short_client

logger = logging.getLogger(__name__)

CANCELLED = "cancelled in Prefect, run again to go on"
FLUSH_SECONDS = 5.0

_kept: list[AbstractContextManager[Any]] = []


def ending_of(error: BaseException, reporter: Reporter | None) -> tuple[RunState, str]:
    """The state of a run that an error ended, and the reason in one sentence."""
    if isinstance(error, KeyboardInterrupt | TerminationSignal):
        return "cancelled", CANCELLED if _is_cancelled_in_prefect() else INTERRUPTED
    if reporter is not None and reporter.is_lost:
        return "failed", str(reporter.lost())
    if isinstance(error, asyncio.CancelledError):
        return (
            "failed",
            "the Prefect server did not renew the concurrency slot of this run: run it again",
        )
    reason = " ".join(str(error).split())[:2000] or type(error).__name__
    return ("failed" if isinstance(error, Exception) else "crashed"), reason


def settle(reporter: Reporter | None, *, is_interrupted: bool) -> None:
    """Send the last reports; a server that is gone must not delay the end of the flow.

    A run that ended without interruption waits for its server as long as the patience of the run, an
    interrupted run for a few seconds. If the server stays silent, Prefect does not repeat its last requests.
    """
    if reporter is None:
        return
    silence = FLUSH_SECONDS if is_interrupted else reporter.patience_seconds
    if not reporter.wait_until_told(silence):
        no_retries = temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0})
        no_retries.__enter__()  # for the rest of this flow run, which Prefect ends in this context
        _kept.append(no_retries)


def mark_cancelled(reason: str) -> None:
    """Tell the server, in one try, that the flow run is cancelled; Prefect then leaves its state alone."""
    flow = FlowRunContext.get()
    if flow is None or flow.flow_run is None or flow.flow_run.deployment_id is not None:
        return  # a worker reports the end of its own runs
    state: Any = Cancelled(message=reason)
    flow.flow_run.state = state
    with _one_try():
        short_client().set_flow_run_state(flow.flow_run.id, state, force=True)


def server_answers() -> bool:
    """Whether the server of this process answers one short request."""
    with _one_try():
        return short_client().api_healthcheck() is None
    return False


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """An error and the errors that caused it."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_cancelled_in_prefect() -> bool:
    flow = FlowRunContext.get()
    if flow is None or flow.flow_run is None:
        return False
    with _one_try():
        state = short_client().read_flow_run(flow.flow_run.id).state
        return state is not None and (state.is_cancelling() or state.is_cancelled())
    return False


class _one_try:  # noqa: N801
    """Make each request inside once; only log that a server does not answer."""

    def __enter__(self) -> None:
        self._settings = temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0})
        self._settings.__enter__()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        self._settings.__exit__(None, None, None)
        if isinstance(error, httpx.HTTPError | PrefectException | OSError):
            logger.warning("the Prefect server was not asked: %s: %s", type(error).__name__, error)
            return True
        return False
