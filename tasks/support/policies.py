"""The Prefect vocabulary that stages share: task settings, run names, progress, artifacts, claims.

A stage is a unit of work with a fingerprint. The catalogue records whether it is done, so Prefect's own cache
is off by name, and a task holds only small references.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, ParamSpec, TypeVar

from prefect import Task, get_run_logger, task
from prefect._internal.concurrency.cancellation import shield
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext

from catalog.errors import AlreadyRunning, CatalogueError
from catalog.ids import slug, stage_fingerprint
from catalog.ledger import Claim, Ledger, StageOutcome
from catalog.store import SliceWrite
from tasks.common.cores import shared_cores
from tasks.common.heartbeat import HEARTBEAT_SECONDS, Heartbeat
from tasks.common.progress import Progress, ProgressListener, StageEvent, StageListener, doing, ignore_stages
from tasks.support.reporting import raise_if_server_is_lost, tell_progress, tell_table

P = ParamSpec("P")
R = TypeVar("R")

WAIT_FOR_OTHER_RUN_SECONDS = 6 * 3600.0
"""Longer than one stage takes; afterwards the other run is stuck."""

stage_listener: ContextVar[StageListener] = ContextVar("stage_listener", default=ignore_stages)


class Results(NamedTuple):
    """The result that a stage commits: rows by table, small facts, finished folders."""

    slices: Sequence[SliceWrite]
    facts: Mapping[str, Any]
    folders: Mapping[str, Path] = {}


@dataclass(frozen=True)
class StageContext:
    """The catalogue and the run of a stage; small, so that it can travel as a task parameter."""

    root: Path
    run_id: str
    forced: frozenset[str] = frozenset()
    device: str = "auto"
    checkpoint_seconds: float = 15.0
    wait_seconds: float = WAIT_FOR_OTHER_RUN_SECONDS
    only: frozenset[str] | None = None
    """The stages that may be computed; others are found or skipped. None for all."""
    usd: float | None = None
    """Most that language models may cost in this run; None for no limit."""

    def may_compute(self, stage: str) -> bool:
        """Whether this run computes the stage if it is missing."""
        return self.only is None or stage in self.only


class LeftOut(CatalogueError):
    """A stage is not in the catalogue, and this run does not compute it."""


@dataclass(frozen=True)
class UnitKey:
    """The identity of a unit of work: everything its fingerprint reads, and a readable label."""

    stage: str
    version: int
    label: str
    config: Mapping[str, Any]
    parents: Sequence[str] = ()
    prompt_digests: Sequence[str] = ()

    @property
    def fingerprint(self) -> str:
        """What identifies the unit in the catalogue."""
        return stage_fingerprint(self.stage, self.version, self.config, self.parents, self.prompt_digests)


def stage_task(name: str, *, retries: int = 0) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a stage of ``stage(context, unit)``: a Prefect task named after its unit.

    Retries are for stages that read files or call an LLM; a stage that only computes has none, because it
    would fail the same way again.
    """
    return task(
        name=name,
        task_run_name=name + " {unit.label}",
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=retries,
        retry_delay_seconds=[5.0, 30.0, 120.0][:retries] or None,
        retry_condition_fn=_is_worth_a_retry if retries else None,
    )


def _is_worth_a_retry(task_: object, run: object, state: Any) -> bool:
    """Only errors that may pass by themselves: of the operating system and the network, never of the user."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, OSError | TimeoutError | ConnectionError)


def is_complete(outcome: StageOutcome) -> bool:
    """Whether a unit was done completely, and not stopped by a budget or an endpoint that failed."""
    return bool(outcome.facts.get("complete", True))


def run_unit(
    context: StageContext,
    key: UnitKey,
    compute: Callable[[Claim, ProgressListener], Results],
    is_current: Callable[[StageOutcome], bool] = is_complete,
    *,
    shares_cores: bool = False,
) -> StageOutcome:
    """Do a unit of work once: find it committed, or claim it, compute it and commit it.

    If another run works on the unit, wait for it and then find it. A committed unit that is not
    ``is_current`` is resumed: new rows are added to its rows, and nothing is paid twice. A unit that
    ``shares_cores`` computes in this process and leaves cores to the others of this machine.

    Raises:
        AlreadyRunning: when the other run holds the unit for longer than ``context.wait_seconds``.
        LeftOut: when it is missing and ``context`` does not let this run compute it.
        ServerLost: when the run's Prefect server does not come back; the unit was not started.
    """
    raise_if_server_is_lost()
    if not context.may_compute(key.stage):
        return _found(context, key)
    forced = key.stage in context.forced
    claim = _claim(context, key, force=forced)
    if claim.done is not None and not is_current(claim.done):
        claim = _claim(context, key, force=True)
    with undisturbed(), claim:
        if claim.done is not None:
            report_outcome(key, claim.done)
            return claim.done
        cores = shared_cores(claim.scratch) if shares_cores else nullcontext()
        with progress_listener(key, (claim,)) as listener, cores:
            results = compute(claim, listener)
            doing("writing to the catalogue", listener)
            outcome = claim.commit(results.slices, facts=results.facts, folders=results.folders)
    report_outcome(key, outcome)
    return outcome


@contextmanager
def undisturbed() -> Iterator[None]:
    """Finish what runs inside even if Prefect cannot renew the run's concurrency lease; signals still end it.

    Prefect cancels such a run with an exception in its main thread; it is raised when this block ends.
    """
    with shield():
        yield


def _found(context: StageContext, key: UnitKey) -> StageOutcome:
    found = Ledger(context.root).outcome(key.fingerprint)
    if found is None:
        raise LeftOut(f"{key.stage} {key.label} is not in the catalogue, and this run does not compute it")
    report_outcome(key, found)
    return found


def claim_undone(context: StageContext, keys: Sequence[UnitKey], stack: ExitStack) -> dict[int, Claim]:
    """Claims, entered into ``stack``, on those units that are not done and that no other run works on.

    It never waits, so two runs that want the same units cannot deadlock.
    """
    claims: dict[int, Claim] = {}
    at_once = replace(context, wait_seconds=0.0)
    for number, key in enumerate(keys):
        try:
            claim = _claim(at_once, key, force=key.stage in context.forced)
        except AlreadyRunning:
            continue
        if claim.done is None:
            claims[number] = stack.enter_context(claim)
    return claims


def _claim(context: StageContext, key: UnitKey, *, force: bool) -> Claim:
    return Ledger(context.root, wait_seconds=context.wait_seconds).claim(
        key.stage,
        key.version,
        key.label,
        key.config,
        key.parents,
        key.prompt_digests,
        run_id=context.run_id,
        force=force,
    )


class progress_listener:  # noqa: N801
    """Report start, progress and failure of a unit to the terminal; also progress to Prefect and the pages.

    While the unit is silent, its last word is reported again every few seconds, with the time so far. Prefect
    gets a report at most every 4 s, from the run's reporter: a listener never waits for a server.
    """

    def __init__(self, key: UnitKey, claims: Collection[Claim] = ()) -> None:
        self._key = key
        self._claims = claims
        self._artifact_key = artifact_key("progress", key.stage, key.label)
        self._listener = stage_listener.get()
        self._heart = Heartbeat(self._beat)
        self._now, self._percent = Progress("starting", 0, 0), 0.0
        self._is_told = False
        self._began = self._told_at = time.monotonic()

    def __enter__(self) -> ProgressListener:
        self._listener(StageEvent(self._key.stage, self._key.label, "started"))
        self._heart.__enter__()
        return self._tell

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._heart.__exit__()
        state: Literal["ended", "failed", "interrupted"] = "ended"
        if error is not None:
            state = "failed" if isinstance(error, Exception) else "interrupted"
        elif self._is_told:
            tell_progress(self._artifact_key, 100.0, f"{self._key.stage}: {self._key.label}")
        self._listener(StageEvent(self._key.stage, self._key.label, state, error=str(error or "")))

    def _tell(self, progress: Progress) -> None:
        self._now = progress
        self._heart.note()
        self._say(progress)
        for claim in self._claims:
            claim.tell(*progress)
        if time.monotonic() - self._told_at >= HEARTBEAT_SECONDS:
            self._tell_prefect(progress)

    def _beat(self) -> None:
        progress = self._now
        self._say(progress)
        self._tell_prefect(progress)

    def _say(self, progress: Progress) -> None:
        seconds = time.monotonic() - self._began
        self._listener(StageEvent(self._key.stage, self._key.label, "working", progress, seconds=seconds))

    def _tell_prefect(self, progress: Progress) -> None:
        self._told_at, self._is_told = time.monotonic(), True
        if progress.total > 0:
            self._percent = min(100.0, 100.0 * progress.done / progress.total)
        so_far = f"{progress.what}, {self._told_at - self._began:.0f} s so far"
        tell_progress(self._artifact_key, self._percent, f"{self._key.stage}: {self._key.label}: {so_far}")


def report_outcome(key: UnitKey, outcome: StageOutcome) -> None:
    """Report whether a unit was found or computed, with its rows and seconds: log, terminal, artifact."""
    state: Literal["found", "computed"] = "computed" if outcome.recomputed else "found"
    n_rows = sum(outcome.rows.values())
    logger = get_run_logger() if in_task() else logging.getLogger(__name__)
    logger.info("%s %s: %s, %s rows, %.1f s", key.stage, key.label, state, f"{n_rows:,}", outcome.seconds)
    stage_listener.get()(
        StageEvent(key.stage, key.label, state, rows=n_rows, seconds=outcome.seconds),
    )
    if outcome.recomputed:
        tell_table(
            artifact_key(key.stage, key.label),
            [{"table": name, "rows": rows} for name, rows in sorted(outcome.rows.items())],
            f"{key.stage} {key.label}: {outcome.seconds:.1f} s, {outcome.fingerprint[:12]}",
        )


def artifact_key(*parts: str) -> str:
    """A Prefect artifact key (lower case letters, digits, dashes), unique per text."""
    return slug("-".join(parts)).replace("_", "-").replace(".", "-")


def in_task() -> bool:
    """Whether this runs inside a Prefect task run, so that there is an API to report to."""
    return TaskRunContext.get() is not None
