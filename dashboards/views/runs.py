"""Runs: did last night go well, and what did it do?"""

import streamlit as st

from catalog import queries
from dashboards import data, figures, frame, prefect
from dashboards.components import run_parts as parts
from dashboards.components.blocks import notice, run_name
from dashboards.components.canvas import draw
from dashboards.components.sql_text import draw_sql

RUNS_SHOWN = 50
AGAIN_SECONDS = 5


def view() -> None:
    """Draw the page."""
    with frame.page("Runs") as shown:
        runs = data.runs(shown.catalogue, RUNS_SHOWN)
        if not runs:
            frame.empty_state()
            return
        asked = st.query_params.get("run") or runs[0]["run_id"]
        chosen = next((run for run in runs if run["run_id"] == asked), None)
        if chosen is None:
            draw(notice(f"There is no run {asked!r} among the last {RUNS_SHOWN}."), key="no-run")
        else:
            shown.named(f"{run_name(chosen)} {figures.moment(chosen['started_at'])} · Runs")
            server = prefect.address()
            answered = bool(chosen["prefect_flow_run_id"]) and prefect.answers(server)
            draw(parts.run_section(chosen, server, answered), key="run")
            alarms = data.rows(shown.catalogue, queries.alarms(run_id=chosen["run_id"]))
            if alarms:
                draw(parts.alarm_table(alarms), key="alarms")
            st.fragment(stages, run_every=AGAIN_SECONDS if chosen["state"] == "running" else None)(chosen)
        draw(parts.run_table(runs, asked), key="runs")
        trends = data.rows(shown.catalogue, queries.trends())
        draw(parts.trend_section(trends), key="trends")
        draw_sql(
            {
                "Runs": queries.runs(limit=RUNS_SHOWN),
                "Alarms of the run": queries.alarms(run_id=asked),
                "Stages of the run": queries.stage_runs(run_id=asked),
                "Trends": queries.trends(),
            }
        )


def stages(run: data.Row) -> None:
    """The stages of the run, redrawn every few seconds while it is in progress."""
    catalogue = data.current()
    ended = data.rows(catalogue, queries.stage_runs(run_id=run["run_id"]))
    working = data.at_work(catalogue, run["run_id"]) if run["state"] == "running" else []
    usual = {row["stage"]: row["seconds"] for row in data.rows(catalogue, queries.typical_seconds())}
    option = data.catalog_option(catalogue)
    draw(parts.stage_section(run, ended, working, usual, option), key="stages")


view()
