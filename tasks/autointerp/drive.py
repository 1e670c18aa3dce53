"""Drives units of work through one explainer or scorer: journal, bounded concurrency, clean stop."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from catalog.errors import UserError
from tasks.autointerp.chat import ChatClient, Stopped
from tasks.autointerp.journal import Journal
from tasks.autointerp.probing import probe
from tasks.autointerp.rows import now_text
from tasks.common.progress import Progress, ProgressListener

CHEAP_SYNC_SECONDS = 1.0
PROBE_KEY = "probe"
Unit = TypeVar("Unit")
Record = dict[str, Any]


@dataclass(slots=True)
class Ending:
    """Why work stopped before its end, if it did, and the units left without an outcome."""

    stopped: str | None = None
    left: list[str] = field(default_factory=list)
    enforces_schema: bool | None = None
    probes: list[Record] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """``complete``, ``stopped``, ``n_left`` and ``enforces_schema`` for the stage's facts."""
        return {
            "complete": self.stopped is None,
            "stopped": self.stopped,
            "n_left": len(self.left),
            "enforces_schema": self.enforces_schema,
        }


class Drive:
    """Runs the units that the journal at ``path`` does not hold yet."""

    def __init__(
        self, path: Path, client: ChatClient | None, what: str, total: int, listener: ProgressListener
    ) -> None:
        self.path = path
        self.client = client
        self.what = what
        self.total = total
        self.listener = listener

    async def run(
        self, units: Iterable[tuple[str, Unit]], work: Callable[[Unit], Awaitable[Record]]
    ) -> tuple[list[Record], Ending]:
        """All records, those of earlier attempts included, in order of their keys.

        An exception other than `Stopped` ends the run; the journal keeps what was finished.
        """
        journal = Journal(self.path, sync_seconds=0.0 if self.client else CHEAP_SYNC_SECONDS)
        ending = Ending()
        pending = iter(units)

        def n_done() -> int:
            return len(journal) - (PROBE_KEY in journal)

        async def worker() -> None:
            for key, unit in pending:
                if key in journal:
                    continue
                if ending.stopped is not None:
                    ending.left.append(key)
                    continue
                try:
                    record = await work(unit)
                except Stopped as stop:
                    ending.stopped = ending.stopped or str(stop)
                    ending.left.append(key)
                    continue
                journal.append(key, {**record, "finished_at": now_text()})
                self.listener(Progress(self.what, n_done(), max(self.total, n_done())))

        try:
            await self._probe(journal, ending)
            await self._all_workers(worker)
            return [record for record in journal.records() if record["key"] != PROBE_KEY], ending
        finally:
            journal.close()
            if self.client is not None:
                await self.client.close()

    async def _all_workers(self, worker: Callable[[], Awaitable[None]]) -> None:
        """As many workers as questions may be under way; the first error ends all and is raised as it is."""
        tasks = [
            asyncio.ensure_future(worker()) for _ in range(self.client.concurrency if self.client else 1)
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _probe(self, journal: Journal, ending: Ending) -> None:
        """Ask once per stage whether the endpoint enforces schemas; a journalled answer is kept."""
        if self.client is None or not self.client.probes:
            return
        if PROBE_KEY not in journal:
            try:
                enforces, call = await probe(self.client)
            except Stopped as stop:
                ending.stopped = str(stop)
                return
            record = {"enforces_schema": enforces, "calls": [call.to_plain()], "finished_at": now_text()}
            journal.append(PROBE_KEY, record)
        answer = journal.record(PROBE_KEY)
        ending.enforces_schema, ending.probes = answer["enforces_schema"], [answer]


def client_for(name: str, needed: bool, client: ChatClient | None) -> ChatClient | None:
    """The client where one is needed, None where not.

    Raises:
        UserError: when one is needed and there is none.
    """
    if needed and client is None:
        raise UserError(f"{name!r} asks a language model: name an endpoint profile in its field 'endpoint'")
    return client if needed else None
