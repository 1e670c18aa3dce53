"""The layer from which a feature is first linearly decodable, with a bar for each layer that was probed."""

from collections.abc import Mapping, Sequence
from typing import Any

from dashboards import figures
from dashboards.components import definitions
from dashboards.components.blocks import quiet, section, term
from dashboards.components.charts import Bar, bars
from dashboards.components.markup import Element, el

Row = Mapping[str, Any]
CHANCE = 0.5


def decodability(rows: Sequence[Row]) -> list[Element]:
    """A bar for each hookpoint from chance, and the first that suffices; nothing if it was not probed.

    Args:
        rows: Rows of the query ``feature_decodability``.
    """
    if not rows:
        return []
    drawn = [
        Bar(
            el("span", row["hookpoint"], " (its own)" if row["is_own"] else "", cls="mono"),
            row["auroc"] - CHANCE,
            figures.decimal(row["auroc"]),
        )
        for row in rows
    ]
    high = max(row["null_high"] for row in rows)
    counts = f"{figures.count(rows[0]['n_firing'])} of {figures.count(rows[0]['n_tokens'])} eval tokens"
    beside = el(
        "span",
        term("AUROC", definitions.DECODABLE),
        f"; it fires on {counts}; shuffled firing reaches {figures.decimal(high)}",
        cls="quiet small",
    )
    return [section("Decodable", quiet(first(rows)), bars(drawn, full=CHANCE), beside)]


def first(rows: Sequence[Row]) -> str:
    """The sentence that names the first hookpoint at which the feature is decodable."""
    for row in rows:
        if row["is_first"]:
            return f"first linearly decodable at {row['hookpoint']}"
    return "not linearly decodable at any of these hookpoints"
