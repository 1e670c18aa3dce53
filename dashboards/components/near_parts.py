"""The near features of a feature: bars with labels, and what is known of each pair."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dashboards import figures, links
from dashboards.components import definitions
from dashboards.components.blocks import section, term
from dashboards.components.charts import Bar, bars
from dashboards.components.markup import Element, Node, el
from dashboards.components.text_marks import label_words

Row = Mapping[str, Any]
Labels = Mapping[tuple[str, int], str]
SHOWN = 6
_GEOMETRY = {
    "constructive": definitions.CONSTRUCTIVE,
    "interference": definitions.INTERFERENCE,
}


def neighbours(row: Row, labels: Labels, near: Sequence[Row]) -> Element:
    """Nearest features by direction and by coactivation, with the flags of each pair.

    ``near`` are the rows of ``feature_neighbours``; a catalogue of an earlier release has none.
    """
    known = {pair["neighbour_index"]: pair for pair in near}

    def side(title: str, help: str, items: Sequence[Row]) -> Element:
        drawn = [
            Bar(
                _neighbour(row["dictionary_id"], i["feature_index"], labels, known.get(i["feature_index"])),
                i["score"],
                figures.decimal(i["score"]),
            )
            for i in items[:SHOWN]
        ]
        found: Node = bars(drawn) if drawn else el("span", "none", cls="quiet small")
        return el("div", el("span", term(title, help), cls="quiet small"), found, cls="stack")

    return section(
        "Nearest features",
        side("by direction (cosine)", definitions.COSINE, row["nearest_by_decoder"]),
        _null(near),
        side("by firing together (Jaccard)", definitions.COACTIVATION, row["nearest_by_coactivation"]),
    )


def _null(near: Sequence[Row]) -> Element | None:
    """The cosine that random directions reach; empty if none was measured."""
    null = near[0]["cosine_null"] if near else None
    if null is None:
        return None
    words = term(f"random directions reach {figures.decimal(null)}", definitions.COSINE_NULL)
    return el("span", words, cls="quiet small")


def _neighbour(dictionary: str, index: int, labels: Labels, pair: Row | None) -> Element:
    label = labels.get((dictionary, index))
    shown = el("span", " ", label_words(label) if label else "no label", cls="quiet isolate")
    link = el("a", f"#{index}", href=links.feature(dictionary, index), cls="inline")
    return el("span", link, shown, *(_flags(pair) if pair else ()))


def _flags(pair: Row) -> Iterator[Node]:
    """Geometry of the pair, and whether the corpus brings both together."""
    if pair["geometry"]:
        yield " · "
        yield term(pair["geometry"], _GEOMETRY.get(pair["geometry"], ""))
    if pair["confounded"]:
        shared = f"documents {_times(pair['document_lift'])} (contexts {_times(pair['context_lift'])})"
        yield " · "
        yield term(f"shares {shared}", definitions.CONFOUNDED)


def _times(lift: float | None) -> str:
    return f"× {figures.significant(lift, 2)}"
