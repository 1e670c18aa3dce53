"""The table of the browse page and the words of its filters."""

from collections.abc import Mapping, Sequence
from typing import Any

from dashboards import figures, links
from dashboards.components import definitions
from dashboards.components.blocks import Column, chips, highlighted, short_dictionary, table
from dashboards.components.feature_parts import score_of, status_badge
from dashboards.components.filters import ORDERS
from dashboards.components.markup import Element, Node, el
from dashboards.components.scores import score_block
from dashboards.selection import PAGE_ROWS, BrowseSelection

Row = Mapping[str, Any]

NOTHING = "No feature fits these filters."
COLUMNS = (
    Column("feature"),
    Column("label"),
    Column("score", definitions.SCORE),
    Column("density", definitions.DENSITY, number=True),
    Column("largest", definitions.MAX_ACTIVATION, number=True, wide=True),
    Column("top tokens", "Commonest texts of its peak tokens.", wide=True),
    Column("matches", "Features of other dictionaries that are mutual best matches.", number=True, wide=True),
)


def query_parameters(dictionary_id: str | None, selection: BrowseSelection) -> dict[str, Any]:
    """The parameters of the page query ``browse``."""
    return {
        "dictionary_id": dictionary_id,
        "model_id": selection.model,
        "status": None if selection.status == "any" else selection.status,
        "density_low": selection.density_low or None,
        "density_high": None if selection.density_high >= 1 else selection.density_high,
        "score_low": selection.score or None,
        "matched": None if selection.matched == "any" else selection.matched == "yes",
        "words": selection.words or None,
        "token": selection.token.strip() or None,
        "sort": selection.sort,
        "limit": PAGE_ROWS,
        "offset": (selection.page - 1) * PAGE_ROWS,
    }


def show_all(href: str) -> Element:
    """The way back to all features."""
    return el("a", "Show all features", href=href)


def found_line(rows: Sequence[Row], selection: BrowseSelection) -> Element:
    """How many were found and which of them are shown."""
    first = (selection.page - 1) * PAGE_ROWS + 1
    found = figures.count(rows[0]["n_found"])
    shown = f"{figures.count(first)} to {figures.count(first + len(rows) - 1)}"
    said = f"{found} features, {shown} shown, {ORDERS[selection.sort]}"
    return el("p", said, cls="quiet small section")


def feature_table(rows: Sequence[Row], selection: BrowseSelection) -> Element:
    """One row per feature, a link each."""
    return table(COLUMNS, [_cells(row, selection) for row in rows], name="Features", fold=True)


def _cells(row: Row, selection: BrowseSelection) -> tuple[Node, ...]:
    href = links.feature(row["dictionary_id"], row["feature_index"])
    if row["label"]:
        label: Node = highlighted(row["label"], selection.words)
    else:
        label = el("span", "never fired" if row["status"] == "unseen" else "no label yet", cls="quiet")
    status = status_badge(row["status"]) if row["status"] != "alive" else None
    where = None
    if not selection.dictionary:
        where = el(
            "span",
            short_dictionary(row["dictionary_id"]),
            cls="quiet small one-line",
            title=row["dictionary_id"],
        )
    named = el("div", el("a", f"#{row['feature_index']}", href=href, cls="mono"), status, where, cls="stack")
    return (
        named,
        el("a", label, href=href, cls="plain"),
        score_block(score_of(row), brief=True),
        figures.percent(row["density"]),
        figures.significant(row["max_activation"]),
        chips(row["top_tokens"][:3]),
        figures.count(row["n_matches"]) if row["n_matches"] else "",
    )
