"""The stages of a run on one time axis: completed, failed (with the command to repeat) and in progress."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dashboards import figures
from dashboards.components import definitions
from dashboards.components.blocks import notice, term
from dashboards.components.markup import Element, Node, el
from dashboards.components.text_marks import visible

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Span:
    """One stage on the axis; ``expected`` is its usual length in seconds, ``headway`` its progress."""

    stage: str
    label: str
    state: str
    start: datetime
    end: datetime
    help: str = ""
    expected: float | None = None
    headway: Mapping[str, Any] | None = None

    @property
    def seconds(self) -> float:
        """Its length so far."""
        return max(0.0, (self.end - self.start).total_seconds())


def spans_of(stages: Sequence[Row], working: Sequence[Row], typical: Mapping[str, float]) -> list[Span]:
    """Finished attempts and those in progress, in the order of their starts."""
    now = datetime.now(UTC)
    ended = [
        Span(
            row["stage"],
            row["label"],
            row["state"],
            row["started_at"],
            row["finished_at"],
            f"{figures.count(row['rows'])} rows, {figures.size(row['bytes'])}",
        )
        for row in stages
    ]
    at_work = [
        Span(
            row["stage"],
            row["label"],
            "running",
            row["started_at"],
            now,
            "",
            typical.get(row["stage"]),
            row["headway"],
        )
        for row in working
    ]
    return sorted([*ended, *at_work], key=lambda span: span.start)


def timeline(spans: Sequence[Span]) -> Element:
    """A bar per stage from its start to its end."""
    first = min(span.start for span in spans)
    whole = max((max(span.end for span in spans) - first).total_seconds(), 0.001)
    cells: list[Node] = []
    for span in spans:
        name = el(
            "span",
            span.stage.replace("_", " "),
            " ",
            el("span", visible(span.label), cls="quiet isolate"),
            cls="label",
        )
        left = 100 * (span.start - first).total_seconds() / whole
        width = max(0.5, 100 * span.seconds / whole)
        style = f"left:{min(left, 99.5):.2f}%;width:{min(width, 100 - min(left, 99.5)):.2f}%"
        bar = el("span", cls=f"span {span.state}", style=style)
        began = f"began {figures.moment(span.start)}" + (f", {span.help}" if span.help else "")
        cells += [
            name,
            el("span", bar, cls="lane"),
            el("span", term(_said(span), _meant(span, began)), cls="number"),
        ]
    ticks = el(
        "span", *(el("span", figures.duration(share * whole)) for share in (0.0, 0.5, 1.0)), cls="ticks"
    )
    axis: list[Node] = [el("span", "since the first start", cls="quiet"), ticks, el("span", "")]
    return el("div", *cells, *axis, cls="timeline")


def _meant(span: Span, began: str) -> str:
    meaning = definitions.STATES.get(span.state, "")
    return f"{began}\n{span.state}: {meaning}" if meaning else began


def _said(span: Span) -> str:
    took = figures.duration(span.seconds)
    if span.state == "running":
        if span.headway and not span.headway["total"]:
            return f"{visible(span.headway['what'])}, running for {took}"
        if span.headway:
            share = min(1.0, span.headway["done"] / span.headway["total"])
            left = f", about {figures.duration(span.seconds * (1 / share - 1))} left" if share > 0 else ""
            return f"{figures.percent(share, 2)} of {visible(span.headway['what'])}{left}"
        usual = f", usually {figures.duration(span.expected)}" if span.expected else ""
        return f"running for {took}{usual}"
    return took if span.state == "committed" else f"{took}, {span.state}"


def failures(run: Row, stages: Sequence[Row], option: str) -> list[Element]:
    """For every stage that failed or is lost: the reason, and the command that repeats it."""
    found = []
    for row in stages:
        if row["state"] == "committed" or not row["error"]:
            continue
        name = row["stage"].replace("_", " ")
        command = None
        if run["pipeline"]:
            line = f"featlas run {shlex.quote(run['pipeline'])} --stage {shlex.quote(row['stage'])}{option}"
            command = el("p", "Repeat it: ", el("code", visible(line)))
        said = f"{name} of {row['label']} {row['state']}: {row['error']}"
        found.append(notice(said, command, bad=row["state"] == "failed"))
    return found
