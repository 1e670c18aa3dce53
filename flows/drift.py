"""Alarms at the end of a nightly run: metrics that left the range of their past nights."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from prefect.context import FlowRunContext
from prefect.events import emit_event

from catalog.connection import read
from catalog.ids import stage_fingerprint
from catalog.queries import metric_history
from catalog.rows import rows_of
from catalog.store import SliceWrite, publish_rows
from flows.reports import Run
from flows.run_links import ALARM_EVENT, dashboard_link
from tasks.measures.drift import Expectation, expectation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Alarm:
    """A new value of a metric, and where it was expected."""

    about: str
    metric: str
    value: float
    before: Expectation

    def sentence(self) -> str:
        """The alarm for people."""
        return (
            f"{self.metric} of {self.about} is {self.value:.4g}, expected {self.before.expected:.4g} ± "
            f"{self.before.tolerance:.2g} after {self.before.n} trainings"
        )


def find_alarms(root: Path, run_id: str) -> list[Alarm]:
    """The metrics of which a run computed a value that is out of the range of the earlier ones."""
    rows = read(lambda connection: metric_history(run_id=run_id).read(connection).to_pylist(), root)
    alarms = []
    for (about, metric), found in groupby(rows, key=lambda row: (row["about"], row["metric"])):
        *past, last = found
        before = expectation([row["value"] for row in past])
        if last["is_new"] and before is not None and before.is_out(last["value"]):
            alarms.append(Alarm(about, metric, last["value"], before))
    return alarms


def raise_alarms(run: Run) -> None:
    """Write the alarms of a run into ``alarms`` and its summary, and tell Prefect of each."""
    if not any(outcome.recomputed for _, outcome in run.outcomes):
        return
    alarms = find_alarms(run.context.root, run.context.run_id)
    if not alarms:
        return
    run.facts["alarms"] = [alarm.sentence() for alarm in alarms]
    _write(run, alarms)
    for alarm in alarms:
        logger.warning("alarm: %s", alarm.sentence())
        _emit(run, alarm)


def _write(run: Run, alarms: list[Alarm]) -> None:
    slices = []
    for about, own in groupby(sorted(alarms, key=lambda alarm: alarm.about), key=lambda alarm: alarm.about):
        rows = [
            {
                "run_id": run.context.run_id,
                "about": about,
                "metric": alarm.metric,
                "value": alarm.value,
                "expected": alarm.before.expected,
                "tolerance": alarm.before.tolerance,
                "n_before": alarm.before.n,
                "raised_at": datetime.now(UTC),
            }
            for alarm in own
        ]
        slices.append(SliceWrite("alarms", about, rows_of("alarms", rows)))
    fingerprint = stage_fingerprint("alarms", 1, {"run_id": run.context.run_id})
    publish_rows(run.context.root, slices, fingerprint=fingerprint)


def _emit(run: Run, alarm: Alarm) -> None:
    """Send the event, if the run has a server; Prefect sends it from a thread of its own."""
    if FlowRunContext.get() is None:
        return
    emit_event(
        ALARM_EVENT,
        resource={
            "prefect.resource.id": f"featlas.metric.{alarm.about}.{alarm.metric}".replace(" ", "-"),
            "prefect.resource.name": f"{alarm.metric} of {alarm.about}",
        },
        payload={
            "message": alarm.sentence(),
            "pipeline": run.pipeline,
            "run_id": run.context.run_id,
            "link": dashboard_link("runs", run=run.context.run_id),
        },
    )
