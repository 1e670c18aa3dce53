"""The report of a run: its row in ``runs``, its summary, its links."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar, cast

from prefect import Task, get_run_logger, runtime
from prefect.context import FlowRunContext
from prefect.states import Completed

from catalog.errors import CatalogueError
from catalog.ids import digest, stage_fingerprint
from catalog.ledger import StageOutcome
from catalog.rows import rows_of
from catalog.runs import living_run, record_crashes
from catalog.store import SliceWrite, publish_rows
from catalog.version import code_version
from flows.config_entries import BudgetConfig
from flows.endings import ending_of, mark_cancelled, settle
from flows.parameters import stage_context
from flows.parking import MOST_SECONDS, Parking
from flows.run_budget import BudgetSpent, RunBudget
from flows.run_links import publish_summary
from tasks.autointerp.budget import SPENT_BY_RUN
from tasks.support.policies import LeftOut, StageContext, is_complete
from tasks.support.reporting import ServerLost, reporting

MAX_ATTEMPTS = 4
"""A machine may restart during a run, but a run that ends its process every time must stop."""


class StagesFailed(CatalogueError):
    """Some stages of a run failed; the stages that did not need them ran."""

    def __init__(self, message: str, summary: dict[str, Any]) -> None:
        super().__init__(message)
        self.summary = summary


class Labelled(Protocol):
    """A unit of work."""

    @property
    def label(self) -> str:
        """What it works on, for people."""


U = TypeVar("U", bound=Labelled)


class NotChosen(Exception):
    """A stage does not belong to this run; the branch ends before it."""


@dataclass
class Run:
    """A flow run in progress: it collects outcomes and failures and keeps its row in ``runs`` up to date."""

    flow: str
    pipeline: str | None
    context: StageContext
    started_at: datetime
    config_digest: str
    deployment: str | None = None
    outcomes: list[tuple[str, StageOutcome]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    parking: Parking = field(default_factory=Parking)
    notes: list[str] = field(default_factory=list)
    """What a flow without stages did; the summary shows it in place of stages found and recomputed."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Further values of the summary; one that its budget ended has ``ended`` (why) and ``left`` (stages)."""
    budget: RunBudget | None = None
    at_end: list[Callable[[], None]] = field(default_factory=list)
    """Work that reads what all other stages of the run wrote."""

    def add(self, label: str, outcome: StageOutcome) -> StageOutcome:
        """Record what a stage did; a stage that is resumed is recorded once."""
        unit = outcome.fingerprint
        self.outcomes = [one for one in self.outcomes if one[1].fingerprint != unit or is_complete(one[1])]
        self.outcomes.append((label, outcome))
        return outcome

    def do(self, stage: Task[[StageContext, U], StageOutcome], unit: U) -> StageOutcome:
        """Run a stage on a unit of work and record the outcome.

        Raises:
            BudgetSpent: for a stage that is not in the catalogue once the budget of the run is used up.
        """
        self.heed_budget()
        try:
            return self.add(unit.label, stage(self.context, unit))
        except LeftOut as error:
            if "ended" not in self.facts:
                raise
            self._leave(f"{stage.name} {unit.label}")
            raise BudgetSpent(str(error)) from error

    def limit(self, budget: BudgetConfig | None) -> None:
        """Begin to count what the run uses of its budget, if it has one."""
        if budget is not None:
            self.budget = RunBudget(budget, self.context.root)
            self.context = replace(self.context, usd=budget.usd)

    def heed_budget(self) -> None:
        """From now on only find stages that are in the catalogue, if the budget is used up."""
        reason = self.budget.used_up() if self.budget is not None else None
        if reason is not None and "ended" not in self.facts:
            self.facts["ended"] = reason
            self.context = replace(self.context, only=frozenset())

    def finish(self) -> None:
        """Run what endpoints postponed and what comes last; a stage that is incomplete then is a failure.

        It is none if the budget of the run stopped it: then it is left to the next run.
        """
        seconds = self.budget.seconds_left() if self.budget is not None else None
        self.parking.finish(MOST_SECONDS if seconds is None else min(seconds, MOST_SECONDS))
        for work in self.at_end:
            work()
        for label, outcome in self.outcomes:
            if not is_complete(outcome):
                stopped = str(outcome.facts["stopped"])
                n_left = outcome.facts["n_left"] + outcome.facts["n_failed"]
                of_all = f" of {outcome.facts['n_chosen']}" if outcome.facts.get("n_chosen") else ""
                what = f"{outcome.stage} {label}: {n_left}{of_all} left: {stopped}"
                if stopped.startswith(SPENT_BY_RUN) or "ended" in self.facts:
                    self.facts.setdefault("ended", "the budget for language models is used up")
                    self._leave(what)
                else:
                    self.failures.append(what)

    def _leave(self, what: str) -> None:
        left = self.facts.setdefault("left", [])
        if what not in left:
            left.append(what)

    @contextmanager
    def branch(self, label: str) -> Iterator[None]:
        """A part of the graph; its failure does not stop the parts that do not need it."""
        logger = get_run_logger() if FlowRunContext.get() else logging.getLogger(__name__)
        try:
            yield
        except ServerLost:
            raise
        except NotChosen:
            pass
        except LeftOut as error:
            logger.info("%s skipped: %s", label, error)
        except Exception as error:
            logger.error("%s failed: %s", label, error)
            self.failures.append(f"{label}: {type(error).__name__}: {error}")

    def summary(self) -> dict[str, Any]:
        """The run as one JSON object: fingerprint, recomputed or found, rows and seconds per stage."""
        stages = [
            {
                "stage": outcome.stage,
                "label": label,
                "fingerprint": outcome.fingerprint,
                "state": "recomputed" if outcome.recomputed else "found",
                "rows": outcome.rows,
                "bytes": outcome.n_bytes,
                "seconds": round(outcome.seconds, 3),
                "complete": is_complete(outcome),
            }
            for label, outcome in self.outcomes
        ]
        return {
            "run_id": self.context.run_id,
            "flow": self.flow,
            "pipeline": self.pipeline,
            "catalogue": str(self.context.root),
            "state": "failed" if self.failures else "completed",
            "stages": stages,
            "n_recomputed": sum(outcome.recomputed for _, outcome in self.outcomes),
            "n_found": sum(not outcome.recomputed for _, outcome in self.outcomes),
            "failures": self.failures,
            "seconds": round((datetime.now(UTC) - self.started_at).total_seconds(), 3),
            "message": self.message,
            **self.facts,
        }

    def result(self) -> dict[str, Any]:
        """The flow's return value: its summary, in a state that counts found and recomputed stages.

        Prefect unwraps the state: the caller of the flow gets the summary.
        """
        summary = self.summary()
        if FlowRunContext.get() is None:
            return summary
        return cast(dict[str, Any], Completed(message=self.message, data=summary))

    def say(self, note: str) -> None:
        """Log what was done and repeat it at the end."""
        logger = get_run_logger() if FlowRunContext.get() else logging.getLogger(__name__)
        logger.info(note)
        self.notes.append(note)

    @property
    def message(self) -> str:
        """The number of stages found and recomputed, for example ``16 found, 0 recomputed``."""
        n_recomputed = sum(outcome.recomputed for _, outcome in self.outcomes)
        n_found = len(self.outcomes) - n_recomputed
        counted = f"{n_found} found, {n_recomputed} recomputed"
        if "ended" in self.facts:
            n_left = len(self.facts.get("left", ()))
            return f"{counted}; ended by its budget ({self.facts['ended']}), {n_left} left for the next run"
        return "; ".join(self.notes) or counted

    def tell_skipped(self, reasons: Iterable[str]) -> None:
        """Log what a stage left out and why, and list it in the summary as ``skipped``, each reason once."""
        logger = get_run_logger() if FlowRunContext.get() else logging.getLogger(__name__)
        told = self.facts.get("skipped", [])
        for reason in dict.fromkeys(reasons):
            if reason not in told:
                logger.warning("skipped: %s", reason)
                self.facts["skipped"] = told = [*told, reason]

    def write_row(self, state: str, error: str | None = None) -> None:
        """Write the run's row into ``runs``; it replaces the earlier row."""
        finished = None if state == "running" else datetime.now(UTC)
        flow_run_id = runtime.flow_run.id
        row = {
            "run_id": self.context.run_id,
            "pipeline": self.pipeline,
            "flow": self.flow,
            "deployment": self.deployment,
            "prefect_flow_run_id": str(flow_run_id) if flow_run_id else None,
            "state": state,
            "started_at": self.started_at,
            "finished_at": finished,
            "code_version": code_version(),
            "config_digest": self.config_digest,
            "error": error,
            "summary": None if finished is None else json.dumps({**self.summary(), "state": state}),
        }
        fingerprint = stage_fingerprint("run", 1, {"run_id": self.context.run_id, "state": state})
        publish_rows(
            self.context.root,
            [SliceWrite("runs", self.context.run_id, rows_of("runs", [row]))],
            fingerprint=fingerprint,
        )


@contextmanager
def started_run(
    flow: str,
    pipeline: str | None,
    catalogue: str,
    forced: frozenset[str],
    config_digest: str,
    only: frozenset[str] | None = None,
) -> Iterator[Run]:
    """A run from its first row to its last: completed, or failed, cancelled or crashed with the reason.

    It first records earlier runs that crashed without reporting it. With ``only`` the run computes only those
    stages, and skips a stage that needs another one that is not in the catalogue.

    Raises:
        StagesFailed: at the end, when parts of the graph failed.
        ServerLost: between two stages, when the Prefect server does not come back.
        RuntimeError: when this flow run was tried too often, because something kills its process.
    """
    attempt = int(runtime.flow_run.run_count or 1)
    if attempt > MAX_ATTEMPTS:
        raise RuntimeError(
            f"this run was started {attempt} times and never ended: look for what kills it "
            "(memory, a hanging driver) before starting a new one"
        )
    started_at = datetime.now(UTC)
    run_id = str(runtime.flow_run.id or digest([flow, pipeline, started_at.isoformat()])[:32])
    context = stage_context(catalogue, run_id, forced, only)
    run = Run(flow, pipeline, context, started_at, config_digest, runtime.deployment.name)
    label = flow if pipeline is None else f"{flow} of {pipeline}"
    with living_run(context.root, run_id, label), reporting() as reporter:
        record_crashes(context.root)
        run.write_row("running")
        try:
            with suppress(BudgetSpent):
                yield run
            run.finish()
            publish_summary(run)
            if run.failures:
                reasons = "; ".join(run.failures)
                raise StagesFailed(f"{len(run.failures)} part(s) of {flow} failed: {reasons}", run.summary())
        except BaseException as error:
            state, reason = ending_of(error, reporter)
            run.write_row(state, error=reason)
            settle(reporter, is_interrupted=state == "cancelled")
            if state == "cancelled":
                mark_cancelled(reason)
            raise
        run.write_row("completed")
        settle(reporter, is_interrupted=False)
