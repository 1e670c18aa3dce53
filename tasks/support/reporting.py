"""Reports of a run to its Prefect server, sent by a thread: work never waits for the server.

The thread tries each report once, for a few seconds. A bounded queue keeps reports that could not be sent
until the server answers again. Of the reports of one progress it keeps only the newest.
"""

import contextvars
import json
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, get_current_settings, temporary_settings

from catalog.errors import CatalogueError

logger = logging.getLogger(__name__)

TRY_SECONDS = 5.0
PAUSE_SECONDS = 2.0
PING_SECONDS = 10.0
MAX_WAITING = 256
PATIENCE_VARIABLE = "FEATLAS_SERVER_PATIENCE_SECONDS"
DEFAULT_PATIENCE_SECONDS = 300.0


class ServerLost(CatalogueError):
    """The Prefect server of a run has been silent for longer than the run waits for it."""


@dataclass(frozen=True)
class Report:
    """An artifact of a flow run or task run; a newer one with the same key replaces it in the queue."""

    key: str
    kind: str
    data: Any
    description: str | None
    flow_run_id: UUID | None
    task_run_id: UUID | None


class Reporter:
    """The link of one run to its server: a queue of reports, and the time since the last answer."""

    def __init__(self, patience_seconds: float) -> None:
        """
        Args:
            patience_seconds: A server that is silent for longer counts as lost.
        """
        self.patience_seconds = patience_seconds
        self.api_url = str(get_current_settings().api.url or "")
        self._waiting: OrderedDict[str, Report] = OrderedDict()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._answered_at = time.monotonic()
        self._is_silent = False
        self._progress_ids: dict[str, UUID] = {}
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._work,), name="featlas-reporter", daemon=True
        )
        self._thread.start()

    def tell(self, key: str, kind: str, data: Any, description: str | None = None) -> None:
        """Queue an artifact of the current task run or flow run and return at once."""
        flow, task = FlowRunContext.get(), TaskRunContext.get()
        report = Report(
            key,
            kind,
            data,
            description,
            flow.flow_run.id if flow and flow.flow_run else None,
            task.task_run.id if task else None,
        )
        with self._changed:
            self._waiting.pop(key, None)
            self._waiting[key] = report
            if len(self._waiting) > MAX_WAITING:
                self._waiting.popitem(last=False)
            self._changed.notify()

    @property
    def silent_seconds(self) -> float:
        """Seconds since the server stopped answering; 0 while it answers."""
        return time.monotonic() - self._answered_at if self._is_silent else 0.0

    @property
    def is_lost(self) -> bool:
        """Whether the server has been silent for longer than the run's patience."""
        return self.silent_seconds > self.patience_seconds

    def lost(self) -> ServerLost:
        """The error of a lost server, in one sentence."""
        return ServerLost(
            f"the Prefect server at {self.api_url} has not answered for {self.silent_seconds:.0f} s; every "
            "finished stage is in the catalogue: run again to go on, with a server that answers"
        )

    def wait_until_told(self, silence_seconds: float) -> bool:
        """Wait until everything was sent; False once the server was silent for ``silence_seconds``."""
        while True:
            with self._changed:
                is_done = not self._waiting and not self._is_silent
            if is_done or not self._thread.is_alive():
                return is_done
            if self.silent_seconds > silence_seconds:
                return False
            time.sleep(0.05)

    def close(self) -> None:
        """Stop sending; drop the queue."""
        with self._changed:
            self._closing.set()
            self._changed.notify()

    def _work(self) -> None:
        client: SyncPrefectClient | None = None
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            while not self._closing.is_set():
                report = self._next()
                if self._closing.is_set():
                    break
                try:
                    client = client or short_client()
                    self._send(client, report)
                except (httpx.HTTPError, OSError) as error:
                    self._note_silence(error, report)
                    client = None
                else:
                    self._note_answer()

    def _next(self) -> Report | None:
        """The oldest report in the queue; None after a pause without any, to check the server."""
        with self._changed:
            if not self._waiting and not self._closing.is_set():
                self._changed.wait(PAUSE_SECONDS if self._is_silent else PING_SECONDS)
            return self._waiting.popitem(last=False)[1] if self._waiting else None

    def _send(self, client: SyncPrefectClient, report: Report | None) -> None:
        try:
            if report is None:
                client.hello()
            elif report.kind == "progress" and report.key in self._progress_ids:
                newer = ArtifactUpdate(data=report.data, description=report.description)
                client.update_artifact(self._progress_ids[report.key], newer)
            else:
                artifact = ArtifactCreate(
                    key=report.key,
                    type=report.kind,
                    description=report.description,
                    data=report.data,
                    flow_run_id=report.flow_run_id,
                    task_run_id=report.task_run_id,
                )
                self._progress_ids[report.key] = client.create_artifact(artifact).id
        except PrefectHTTPStatusError as error:
            if error.response.status_code >= 500:
                raise
            logger.warning("Prefect refused the report %s: %s", report and report.key, error)

    def _note_silence(self, error: Exception, report: Report | None) -> None:
        with self._changed:
            if report is not None and report.key not in self._waiting:
                self._waiting[report.key] = report
                self._waiting.move_to_end(report.key, last=False)
            if not self._is_silent:
                logger.warning(
                    "the Prefect server does not answer (%s: %s); work continues", type(error).__name__, error
                )
            self._is_silent = True
            if not self._closing.is_set():
                self._changed.wait(PAUSE_SECONDS)

    def _note_answer(self) -> None:
        with self._changed:
            if self._is_silent:
                logger.warning("the Prefect server answers again")
            self._is_silent = False
            self._answered_at = time.monotonic()


current_reporter: ContextVar[Reporter | None] = ContextVar("current_reporter", default=None)


def short_client() -> SyncPrefectClient:
    """A client of the run's server whose requests end within seconds; use it without retries."""
    return get_client(sync_client=True, httpx_settings={"timeout": TRY_SECONDS})


@contextmanager
def reporting() -> Iterator[Reporter | None]:
    """Send reports of what runs inside to the flow run's server; outside a flow run, none."""
    if FlowRunContext.get() is None:
        yield None
        return
    patience = float(os.environ.get(PATIENCE_VARIABLE) or DEFAULT_PATIENCE_SECONDS)
    reporter = Reporter(patience)
    token = current_reporter.set(reporter)
    try:
        yield reporter
    finally:
        current_reporter.reset(token)
        reporter.close()


def raise_if_server_is_lost() -> None:
    """End a run before its next stage if its server does not come back.

    Raises:
        ServerLost: when the server was silent for longer than the run's patience.
    """
    reporter = current_reporter.get()
    if reporter is not None and reporter.is_lost:
        raise reporter.lost()


def tell_progress(key: str, percent: float, description: str) -> None:
    """Queue a progress artifact, if there is a server."""
    if (reporter := current_reporter.get()) is not None:
        reporter.tell(key, "progress", percent, description)


def tell_table(key: str, rows: Sequence[dict[str, Any]], description: str) -> None:
    """Queue a table artifact, if there is a server."""
    if (reporter := current_reporter.get()) is not None:
        reporter.tell(key, "table", json.dumps(rows), description)


def tell_link(key: str, link: str, text: str) -> None:
    """Queue a link artifact, if there is a server."""
    if (reporter := current_reporter.get()) is not None:
        reporter.tell(key, "markdown", f"[{text}]({link})")
