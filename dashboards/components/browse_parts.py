"""The table of the browse page and the texts of its filters."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from catalog import queries
from catalog.queries import Sort
from catalog.query import Query
from dashboards import figures, links
from dashboards.components import definitions
from dashboards.components.blocks import Column, chips, dictionary_term, highlighted, quiet, table
from dashboards.components.feature_parts import score_of, status_badge
from dashboards.components.filters import ORDERS
from dashboards.components.markup import Element, Node, el
from dashboards.components.scores import score_block
from dashboards.components.text_marks import label_words, token_label
from dashboards.selection import PAGE_ROWS, BrowseSelection

Row = Mapping[str, Any]

NOTHING = "No feature matches these filters."
COLUMNS = (
    Column("feature"),
    Column("label"),
    Column("score", definitions.SCORE),
    Column("density", definitions.DENSITY, number=True),
    Column("largest", definitions.MAX_ACTIVATION, number=True, wide=True),
    Column("top tokens", "Most common texts of its peak tokens.", wide=True),
    Column("matches", "Features of other dictionaries that are mutual best matches.", number=True, wide=True),
)
HEADS: Mapping[str, tuple[Sort, Sort]] = {
    "feature": ("index", "index_down"),
    "label": ("label", "label_down"),
    "score": ("score", "score_up"),
    "density": ("density", "rare"),
    "largest": ("activation", "activation_up"),
    "matches": ("matches", "matches_up"),
}


def browse_query(dictionary_id: str | None, selection: BrowseSelection) -> Query:
    """The query of the features that fit the filters."""
    return queries.browse(
        dictionary_id=dictionary_id,
        model_id=selection.model,
        status=None if selection.status == "any" else selection.status,
        density_low=selection.density_low or None,
        density_high=None if selection.density_high >= 1 else selection.density_high,
        score_low=selection.score or None,
        matched=None if selection.matched == "any" else selection.matched == "yes",
        words=selection.words or None,
        token=selection.token.strip() or None,
        feature_index=selection.number,
        sort=selection.sort,
        limit=PAGE_ROWS,
        offset=(selection.page - 1) * PAGE_ROWS,
    )


def show_all(href: str) -> Element:
    """A link back to all features."""
    return el("a", "Show all features", href=href)


def nearest(rows: Sequence[Row], labels: Sequence[Row], selection: BrowseSelection) -> Element:
    """The closest hits for a search without results: labels, then words and tokens."""
    if not rows:
        return quiet("No word of a label and no token has a similar spelling.")
    whole = [
        el(
            "li",
            el(
                "a", label_words(row["label"]), href=links.feature(row["dictionary_id"], row["feature_index"])
            ),
            el("span", f" #{row['feature_index']}", cls="quiet small mono"),
        )
        for row in labels
    ]
    found = el("div", el("h3", "Nearest labels"), el("ul", *whole, cls="plain-list"), cls="stack section")
    return el("div", found if whole else None, _words(rows, selection))


def _words(rows: Sequence[Row], selection: BrowseSelection) -> Element:

    def side(kind: str, name: str) -> Element | None:
        own = [row for row in rows if row["kind"] == kind]
        if not own:
            return None
        found = [
            el(
                "li",
                el("a", token_label(row["word"]), href=_only(selection, name, row["word"]), cls="isolate"),
                el("span", f" {figures.count(row['n_features'])} features", cls="quiet small"),
            )
            for row in own
        ]
        title = "Nearest words of labels" if kind == "label" else "Nearest tokens"
        return el("div", el("h3", title), el("ul", *found, cls="plain-list"), cls="stack")

    return el("div", side("label", "q"), side("token", "token"), cls="pair section")


def _only(selection: BrowseSelection, name: str, word: str) -> str:
    kept = BrowseSelection(dictionary=selection.dictionary, sort=selection.sort)
    return links.page("browse", **{**kept.to_url(), name: word})


def found_line(rows: Sequence[Row], selection: BrowseSelection) -> Element:
    """How many were found and which of them are shown."""
    first = (selection.page - 1) * PAGE_ROWS + 1
    found = figures.count(rows[0]["n_found"])
    shown = f"{figures.count(first)} to {figures.count(first + len(rows) - 1)}"
    said = f"{found} features, {shown} shown, {ORDERS[selection.sort]}"
    if selection.number is not None and not selection.dictionary:
        said = f"{found} dictionaries have a feature #{selection.number}: open one, or choose a dictionary"
    return el("p", said, cls="quiet small section")


def feature_table(rows: Sequence[Row], selection: BrowseSelection) -> Element:
    """One row per feature, each with a link."""
    columns = [_sortable(column, selection) for column in COLUMNS]
    return table(columns, [_cells(row, selection) for row in rows], name="Features", fold=True)


def _sortable(column: Column, selection: BrowseSelection) -> Column:
    """A column whose head sorts: by its first order, or by the second if the first is already shown."""
    orders = HEADS.get(column.name)
    if orders is None:
        return column
    following = orders[1] if selection.sort == orders[0] else orders[0]
    href = links.page("browse", **replace(selection, sort=following, page=1).to_url())
    sorted_ = None
    if selection.sort in orders:
        first = orders.index(selection.sort) == 0
        sorted_ = "ascending" if first == (column.name in ("feature", "label")) else "descending"
    return replace(column, href=href, sorted=sorted_)


def _cells(row: Row, selection: BrowseSelection) -> tuple[Node, ...]:
    href = links.feature(row["dictionary_id"], row["feature_index"])
    if row["label"]:
        label: Node = highlighted(row["label"], selection.words)
    else:
        label = el("span", "never fired" if row["status"] == "unseen" else "no label yet", cls="quiet")
    status = status_badge(row["status"]) if row["status"] != "alive" else None
    where = None
    if not selection.dictionary:
        where = el("span", dictionary_term(row["dictionary_id"]), cls="quiet small one-line")
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
