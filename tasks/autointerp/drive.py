"""Runs units of work through one explainer or scorer: journal, bounded concurrency, clean stop."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
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
    """The reason why work ended before all units had an outcome, if it did, and the units without one."""

    stopped: str | None = None
    resume_at: str | None = None
    """When the endpoint accepts questions again (ISO text, UTC), if it gave a time."""
    left: list[str] = field(default_factory=list)
    failed: list[Record] = field(default_factory=list)
    """Records of units with an unanswered question; the next run asks it again."""
    last_error: str | None = None
    """The reason for the last such question."""
    enforces_schema: bool | None = None
    gives_logprobs: bool | None = None
    probes: list[Record] = field(default_factory=list)

    def stop(self, reason: Stopped) -> None:
        """Record why further questions are pointless; the first reason counts."""
        if self.stopped is None:
            self.stopped = str(reason)
            if reason.resume_seconds is not None:
                self.resume_at = (datetime.now(UTC) + timedelta(seconds=reason.resume_seconds)).isoformat()

    def facts(self) -> dict[str, Any]:
        """Facts of the stage: ``complete``, what is missing if it is not, and what the probe found."""
        return {
            "complete": self.stopped is None and not self.failed,
            "stopped": self.stopped or (self._failure() if self.failed else None),
            "resume_at": self.resume_at,
            "n_left": len(self.left),
            "n_failed": len(self.failed),
            "enforces_schema": self.enforces_schema,
            "gives_logprobs": self.gives_logprobs,
        }

    def _failure(self) -> str:
        n_questions = sum(call["outcome"] == "error" for record in self.failed for call in record["calls"])
        return f"{n_questions} questions got no answer (last: {self.last_error}): run again"


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
        """Records of all units with an outcome, including those of killed attempts, by their keys.

        A unit with a question that ended as ``error`` has none: it is in ``failed`` and not in the journal.
        An exception other than `Stopped` ends the run; the journal keeps finished units.
        """
        journal = Journal(self.path, sync_seconds=0.0 if self.client else CHEAP_SYNC_SECONDS)
        ending = Ending()
        pending = iter(units)

        def n_done() -> int:
            return len(journal) - (PROBE_KEY in journal) + len(ending.failed)

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
                    ending.stop(stop)
                    ending.left.append(key)
                    continue
                record = {**record, "finished_at": now_text()}
                if is_final(record["calls"]):
                    journal.append(key, record)
                else:
                    ending.failed.append({"key": key, **record})
                self.listener(Progress(self.what, n_done(), max(self.total, n_done())))

        try:
            await self._probe(journal, ending)
            await self._all_workers(worker)
            ending.failed.sort(key=lambda record: str(record["key"]))
            ending.last_error = self.client.last_error if self.client else None
            return [record for record in journal.records() if record["key"] != PROBE_KEY], ending
        finally:
            journal.close()
            if self.client is not None:
                await self.client.close()

    async def _all_workers(self, worker: Callable[[], Awaitable[None]]) -> None:
        """As many workers as concurrent questions; the first error ends all and is raised unchanged."""
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
        """Test once per stage what the endpoint does; an answer in the journal is kept."""
        if self.client is None or not self.client.probes:
            return
        if PROBE_KEY in journal:
            answer = journal.record(PROBE_KEY)
        else:
            try:
                answer = {**await probe(self.client), "finished_at": now_text()}
            except Stopped as stop:
                ending.stop(stop)
                return
            if is_final(answer["calls"]):
                journal.append(PROBE_KEY, answer)
        ending.enforces_schema, ending.probes = answer["enforces_schema"], [answer]
        ending.gives_logprobs = answer.get("gives_logprobs")


def is_final(calls: Iterable[Mapping[str, Any]]) -> bool:
    """Whether every question got an answer; the next run repeats one that ended as ``error``."""
    return all(call["outcome"] != "error" for call in calls)


def client_for(name: str, needed: bool, client: ChatClient | None) -> ChatClient | None:
    """The client if one is needed, else None.

    Raises:
        UserError: when one is needed and there is none.
    """
    if needed and client is None:
        raise UserError(f"{name!r} asks a language model: name an endpoint profile in its field 'endpoint'")
    return client if needed else None
