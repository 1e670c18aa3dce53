"""The accuracy that labelled features keep, as a curve over their number."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dashboards import figures
from dashboards.components import definitions
from dashboards.components.blocks import term
from dashboards.components.charts import Bar, bars
from dashboards.components.markup import Element, el
from dashboards.components.text_marks import visible

Row = Mapping[str, Any]
METRIC = "accuracy_kept"
CONTROLS = {"random_latents": "random", "all_latents": "best of all", "shuffled": "shuffled labels"}


def kept_curves(metrics: Sequence[Row]) -> Iterator[Element]:
    """One curve for each document label: a bar for each number of features, with the controls beside it."""
    rows = [row for row in metrics if row["metric"] == METRIC and row["value"] is not None]
    by_label: dict[str, list[tuple[int, Row]]] = {}
    for row in rows:
        label, _, m = str(row["variant"]).rpartition(":m")
        by_label.setdefault(label, []).append((int(m), row))
    for label, found in by_label.items():
        title = el("h3", term("Accuracy kept by labelled features", definitions.ACCURACY_KEPT))
        drawn = [_bar(m, row) for m, row in sorted(found, key=lambda one: one[0])]
        note = el(
            "span", f"document label {visible(label)}; a full bar is all activations", cls="quiet small"
        )
        yield el("div", title, note, bars(drawn, full=1.0), cls="stack block measures")


def _bar(m: int, row: Row) -> Bar:
    control = json.loads(row["control"]) if row["control"] else {}
    beside = ", ".join(
        f"{words} {figures.percent(control[name], 2)}" for name, words in CONTROLS.items() if name in control
    )
    name = f"{figures.count(m)} feature" + ("s" if m > 1 else "")
    label = el("span", el("span", name), el("span", beside, cls="quiet small"), cls="stack")
    return Bar(label, min(row["value"], 1.0), figures.percent(row["value"]))
