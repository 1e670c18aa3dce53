"""What a run leaves in the Prefect UI: its summary as a table, and links to the pages."""

import os
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from tasks.support.policies import artifact_key
from tasks.support.reporting import tell_link, tell_table

if TYPE_CHECKING:
    from flows.reports import Run

ALARM_EVENT = "featlas.alarm"
"""Prefect event of a metric that left the range of its past nights."""


def publish_summary(run: "Run") -> None:
    """Store the summary and a link to the run's dashboard page as Prefect artifacts."""
    summary = run.summary()
    rows = [
        {name: stage[name] for name in ("stage", "label", "state", "seconds")}
        | {"rows": sum(stage["rows"].values()), "fingerprint": stage["fingerprint"][:12]}
        for stage in summary["stages"]
    ]
    tell_table(artifact_key("summary", run.flow, run.pipeline or "all"), rows, run.message)
    tell_link(
        artifact_key("catalogue", run.flow, run.pipeline or "all"),
        dashboard_link("runs", run=run.context.run_id),
        "Open this run in the catalogue",
    )


def dashboard_link(page: str, **parameters: str) -> str:
    """The address of a dashboard page; ``FEATLAS_DASHBOARD_URL`` says where the dashboard is."""
    base = os.environ.get("FEATLAS_DASHBOARD_URL", "http://127.0.0.1:8501").rstrip("/")
    return f"{base}/{page}?{urlencode(parameters)}"
