"""The parts of the runs page."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from dashboards import figures, links
from dashboards.components import definitions
from dashboards.components.blocks import (
    Column,
    Figure,
    badge,
    facts,
    heading,
    key_figures,
    notice,
    quiet,
    run_name,
    section,
    table,
    term,
)
from dashboards.components.charts import line
from dashboards.components.markup import Element, Node, el
from dashboards.components.text_marks import visible
from dashboards.components.timeline import failures, spans_of, timeline

Row = Mapping[str, Any]
LEFT_SHOWN = 12
NO_TRENDS = "Trends appear once a dictionary was trained a second time."
METRIC_NAMES = {"fvu": "FVU", "l0": "L0", "ce_recovered": "CE recovered"}
METRIC_HELP = {"fvu": definitions.FVU, "l0": definitions.L0, "ce_recovered": definitions.CE_RECOVERED}
ALARM_COLUMNS = (
    Column("metric"),
    Column("of"),
    Column("value", number=True),
    Column("expected", "Median of the earlier values.", number=True),
    Column("tolerated", "Distance from it that is no alarm: from their spread, with a floor.", number=True),
    Column("before", "Earlier values, one for each training.", number=True),
)
RUN_COLUMNS = (
    Column("began"),
    Column("run"),
    Column("state"),
    Column("took", number=True),
    Column(
        "recomputed",
        "Stages that this run computed; the others were already done.",
        number=True,
        wide=True,
    ),
    Column("rows", number=True, wide=True),
    Column("spent", number=True),
)


def seconds_of(run: Row) -> float | None:
    """Wall time of a run that ended."""
    return (run["finished_at"] - run["started_at"]).total_seconds() if run["finished_at"] else None


def state_badge(state: str) -> Node:
    """The state of a run, which opens to its meaning."""
    word = badge(state, strong=state == "completed", bad=state in ("failed", "crashed"), cls=state)
    return term(word, definitions.STATES.get(state, ""), "define state")


def run_section(run: Row, prefect: str, answered: bool) -> Element:
    """One run: figures and its error; a link to Prefect if it answers."""
    said = "last seen after" if run["state"] == "crashed" else "took"
    took = [Figure(said, figures.duration(seconds_of(run)))] if run["finished_at"] else []
    items = [
        *took,
        Figure("stages recomputed", figures.count(run["n_stages"])),
        Figure("rows", figures.count(run["rows"])),
        Figure("written", figures.size(run["bytes"])),
        Figure("LLM calls", figures.count(run["n_calls"])),
        Figure("spent", figures.money(run["cost_usd"])),
    ]
    pairs: list[tuple[Node, Node]] = [
        ("run", el("code", run["run_id"])),
        ("flow", run["flow"] + (f" / {run['deployment']}" if run["deployment"] else "")),
        ("featlas", run["code_version"]),
    ]
    if run["prefect_flow_run_id"]:
        href = f"{prefect}/runs/flow-run/{run['prefect_flow_run_id']}"
        link = el("a", "open this run in Prefect", href=href)
        none = el("span", f"no server answers at {prefect} (“featlas up” starts one)", cls="quiet")
        pairs.append(("Prefect", link if answered else none))
    return el(
        "section",
        el(
            "div",
            heading(run_name(run), figures.moment(run["started_at"])),
            state_badge(run["state"]),
            cls="row",
        ),
        notice(run["error"], bad=True) if run["error"] else None,
        left_notice(run),
        key_figures(items),
        facts(pairs),
        cls="stack wide-gap section",
    )


def stage_section(
    run: Row, stages: Sequence[Row], working: Sequence[Row], typical: Mapping[str, float], option: str
) -> Element:
    """The stages of a run over time, including those in progress; failures with the command to repeat them.

    ``option`` names the catalogue for the command.
    """
    found = [item for item in _stages(run) if item.get("state") == "found"]
    complete = run["state"] == "completed"
    none = quiet("No stage was recomputed: all were already done." if complete else "No stage ended yet.")
    spans = spans_of(stages, working, typical)
    parts: list[Node] = [
        el("h3", "Stages"),
        *failures(run, stages, option),
        timeline(spans) if spans else none,
    ]
    if found:
        names = ", ".join(sorted({str(item.get("stage", "")).replace("_", " ") for item in found}))
        parts.append(el("p", f"Already done: {len(found)} ({visible(names)}).", cls="quiet small"))
    return el("div", *parts, cls="block stack")


def _summary(run: Row) -> Mapping[str, Any]:
    """A run's summary; empty while it works, and for one in another form."""
    content = json.loads(run["summary"]) if run["summary"] else {}
    return content if isinstance(content, dict) else {"stages": content}


def _stages(run: Row) -> list[Mapping[str, Any]]:
    """The per-stage entries of a run's summary, ignoring anything else in it."""
    return [entry for entry in _summary(run).get("stages") or () if isinstance(entry, dict)]


def left_notice(run: Row) -> Element | None:
    """What a run that its budget ended leaves to the next one; nothing for other runs."""
    summary = _summary(run)
    if "ended" not in summary:
        return None
    left = [str(what) for what in summary.get("left") or ()]
    shown = [el("li", visible(what)) for what in left[:LEFT_SHOWN]]
    if left[LEFT_SHOWN:]:
        shown.append(el("li", f"and {len(left) - LEFT_SHOWN} more"))
    said = f"Ended by its budget: {summary['ended']}. The next run goes on with {len(left)} stages"
    return notice(said + (" and what needs them:" if left else "."), el("ul", *shown) if shown else None)


def alarm_table(rows: Sequence[Row]) -> Element:
    """The metrics of a run that left the range of the runs before."""
    cells = [
        (
            row["metric"],
            row["about"],
            figures.significant(row["value"]),
            figures.significant(row["expected"]),
            figures.significant(row["tolerance"]),
            figures.count(row["n_before"]),
        )
        for row in rows
    ]
    return section("Alarms", table(ALARM_COLUMNS, cells, name="Alarms of this run", fold=True))


def run_table(runs: Sequence[Row], chosen: str) -> Element:
    """All runs, newest first, each with a link."""
    rows = []
    for run in runs:
        when = figures.moment(run["started_at"])
        href = links.page("runs", run=run["run_id"])
        first: Node = el("strong", when) if run["run_id"] == chosen else el("a", when, href=href)
        summary = _stages(run)
        recomputed = f"{run['n_stages']} of {len(summary)}" if summary else figures.count(run["n_stages"])
        rows.append(
            (
                first,
                _named(run),
                state_badge(run["state"]),
                figures.duration(seconds_of(run)),
                recomputed,
                figures.count(run["rows"]),
                figures.money(run["cost_usd"]),
            )
        )
    return section("All runs", table(RUN_COLUMNS, rows, name="Runs", fold=True))


def _named(run: Row) -> Node:
    """The pipeline, and the flow unless it is nightly."""
    if run["pipeline"] is None or run["flow"] == "nightly":
        return run["pipeline"] or str(run["flow"])
    return el("span", run["pipeline"], " ", el("span", run["flow"], cls="quiet small"))


def trend_section(rows: Sequence[Row]) -> Element:
    """The main metrics of each alias over its retrainings."""
    series: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        series[row["alias"], row["metric"]].append(row["value"])
    cards = [
        el(
            "div",
            el("h3", term(METRIC_NAMES[metric], METRIC_HELP[metric])),
            el("span", alias, cls="quiet small"),
            line(values, name=f"{METRIC_NAMES[metric]} of {alias}"),
            cls="card",
        )
        for (alias, metric), values in series.items()
        if len(values) > 1
    ]
    body = el("div", *cards, cls="cards") if cards else quiet(NO_TRENDS)
    return section("Trends", body, note="main metrics on eval documents, over retrainings")
