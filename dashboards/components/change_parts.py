"""The parts of the page "What changed"."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dashboards import figures, links
from dashboards.change_data import Changes
from dashboards.components import definitions
from dashboards.components.blocks import (
    Column,
    Figure,
    dictionary_term,
    key_figures,
    label_text,
    section,
    table,
    term,
)
from dashboards.components.charts import Bin, histogram
from dashboards.components.markup import Element, Node, el
from dashboards.components.text_marks import visible

Row = Mapping[str, Any]
NOTHING = (
    "Nothing was compared yet. Add compare to a pipeline, for example “compare: {kind: labels, label: "
    "source, a: reviews, b: addresses}”, and run it."
)
BEFORE, AFTER = 8, 4
PARTLY = 0.7
MEASURES = {
    "pearson": ("Correlation", "correlation", definitions.PEARSON),
    "jaccard": ("Overlap of firing", "Jaccard index", definitions.JACCARD),
    "effect": ("Effect", "effect", definitions.EFFECT),
}
COMPARISON_COLUMNS = (
    Column("comparison"),
    Column("dictionary"),
    Column("changed", definitions.CHANGED, number=True),
    Column("correlation", definitions.PEARSON, number=True, wide=True),
    Column("FVU", definitions.FVU_SIDES, number=True, wide=True),
)
SHIFT_COLUMNS = (
    Column("feature"),
    Column("label"),
    Column("effect", definitions.EFFECT, number=True),
    Column("q", definitions.Q_VALUE, number=True),
    Column("a", "Share of tokens on which it fires on side a.", number=True),
    Column("b", "Share of tokens on which it fires on side b.", number=True),
    Column("correlation", definitions.PEARSON, number=True, wide=True),
)


def comparisons(rows: Sequence[Row], shown: Row) -> Element:
    """Every comparison of the catalogue with a link; the one that the page shows is marked."""
    return table(
        COMPARISON_COLUMNS, [_comparison(row, row is shown) for row in rows], name="Comparisons", fold=True
    )


def _comparison(row: Row, is_shown: bool) -> tuple[Node, ...]:
    href = links.changes(row["dictionary_id"], row["set_a"], row["set_b"], row["comparison"])
    link = el("a", visible(row["comparison"]), href=href, aria_current="true" if is_shown else None)
    name = el("strong", link) if is_shown else link
    return (
        el("div", name, el("span", sides(row), cls="quiet small"), cls="stack"),
        dictionary_term(row["dictionary_id"]),
        f"{figures.count(row['n_changed'])} of {figures.count(row['n_features'])}",
        figures.decimal(row["median_pearson"]),
        _both(row, "fvu", 2),
    )


def sides(row: Row) -> str:
    """Model and corpus of both sides, each once."""
    names = [f"{row[f'model_{side}'] or 'unknown model'} on {row[f'corpus_{side}']}" for side in "ab"]
    return " → ".join(dict.fromkeys(names))


def headline(found: Changes) -> Iterator[Element]:
    """What is compared, how many features changed, and how the features are spread."""
    row = found.row
    shown = [
        Figure("changed", f"{row['n_changed']} of {figures.count(row['n_features'])}", definitions.CHANGED),
    ]
    if row["fvu_a"] is not None or row["fvu_b"] is not None:
        shown.append(Figure("FVU", _both(row, "fvu", 3), definitions.FVU_SIDES))
        shown.append(Figure("L0", _both(row, "l0", 1), definitions.L0))
    if row["n_silent"] is not None:
        shown.append(Figure("silent on b", _silent(row), definitions.SILENT_ON_B))
    if row["n_documents_a"] is not None:
        shown.append(Figure("documents", f"{row['n_documents_a']} and {row['n_documents_b']}"))
    charts = [
        el("div", el("span", title, cls="quiet small"), _spread(found, measure, title, along), cls="stack")
        for measure, (title, along, _) in MEASURES.items()
        if any(one["measure"] == measure for one in found.spread)
    ]
    title = visible(row["comparison"])
    yield section(title, key_figures(shown), el("div", *charts, cls="pair"), note=sides(row))


def _silent(row: Row) -> str:
    """Silent features, and what probes say of them."""
    if not row["n_silent"]:
        return "0"
    said = f"{figures.count(row['n_revived'])} still decodable, {figures.count(row['n_gone'])} not"
    return f"{figures.count(row['n_silent'])}: {said}"


def silence(shift: Row) -> Element | None:
    """A badge for a feature that is silent on b: whether the model still has its information."""
    if not shift["is_silent"]:
        return None
    if shift["revived"] is None:
        return el("span", term("silent, undecided", definitions.UNDECIDED), cls="quiet small")
    auroc = f"AUROC {figures.decimal(shift['probe_auroc'])}, shuffled {figures.decimal(shift['probe_null'])}"
    if shift["revived"]:
        name, help = "still decodable", definitions.STILL_DECODABLE
    elif shift["probe_auroc"] >= PARTLY and shift["probe_auroc"] > shift["probe_null"]:
        name, help = "partly decodable", definitions.PARTLY_DECODABLE
    else:
        name, help = "gone", definitions.GONE
    return el("span", term(f"silent, {name}", help), f" ({auroc})", cls="quiet small")


def _both(row: Row, name: str, places: int) -> str:
    """A figure of both sides, once where both are one set."""
    first, second = (figures.decimal(row[f"{name}_{side}"], places) for side in "ab")
    return first if row["set_a"] == row["set_b"] else f"{first} → {second}"


def _spread(found: Changes, measure: str, title: str, along: str) -> Element:
    bins = [Bin(one["low"], one["high"], one["n"]) for one in found.spread if one["measure"] == measure]
    return histogram(bins, name=f"Histogram of {title}", unit="features", along=along, logarithmic=False)


def shifts(found: Changes) -> Element:
    """The features that changed most surely, with a context of each side."""
    rows = [_shift(found, shift) for shift in found.shifts]
    note = "most certain first; a is the base, b the other side"
    return section("Features", table(SHIFT_COLUMNS, rows, name="Features that changed", fold=True), note=note)


def _shift(found: Changes, shift: Row) -> tuple[Node, ...]:
    index, dictionary = shift["feature_index"], found.row["dictionary_id"]
    set_a, set_b = found.row["set_a"], found.row["set_b"]
    where: list[Node] = [el("a", "a", href=links.feature(dictionary, index, set_a)), " "]
    if set_a != set_b:
        where.append(el("a", "b", href=links.feature(dictionary, index, set_b)))
    named = el("div", el("a", f"#{index}", href=links.feature(dictionary, index), cls="mono"), cls="stack")
    contexts = [_context(side, found.contexts.get((index, side))) for side in "ab"]
    interval = f"{figures.signed(shift['effect'])}{figures.interval(shift)}"
    has_contexts = any((index, side) in found.contexts for side in "ab")
    return (
        el("div", named, el("span", *where, cls="small"), cls="stack") if set_a != set_b else named,
        el(
            "div",
            label_text(shift["label"]),
            silence(shift),
            *(contexts if has_contexts else ()),
            cls="stack",
        ),
        interval,
        figures.significant(shift["q_value"], 2),
        figures.percent(shift["density_a"]),
        figures.percent(shift["density_b"]),
        figures.decimal(shift["pearson"]),
    )


def _context(side: str, row: Row | None) -> Element:
    """The strongest context of a side, its strongest token marked."""
    if row is None:
        return el("span", f"{side}: no context", cls="quiet small")
    tokens, peak = list(row["tokens"]), int(row["peak_position"])
    before = "".join(tokens[max(0, peak - BEFORE) : peak])
    after = "".join(tokens[peak + 1 : peak + 1 + AFTER])
    return el(
        "span",
        f"{side}: ",
        el("span", visible(before), el("mark", visible(tokens[peak])), visible(after), cls="mono isolate"),
        cls="quiet small",
    )
