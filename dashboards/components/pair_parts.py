"""The parts of the compare page for two features."""

from collections.abc import Mapping
from typing import Any

from dashboards import figures, links
from dashboards.comparison import Features, FeatureSide
from dashboards.components import definitions
from dashboards.components.blocks import (
    Figure,
    badge,
    key_figures,
    label_line,
    quiet,
    section,
    term,
    verdict_words,
)
from dashboards.components.feature_parts import firing_figures, score_of, status_badge
from dashboards.components.markup import Element, el
from dashboards.components.scores import score_block

SHARED_NOTE = "mined contexts that overlap in one document; colour is the share of each feature's own maximum"
NO_PAIR = (
    "Matching did not pair these two: neither is among the other's best partners, or their dictionaries were "
    "not compared yet."
)


def sides(found: Features) -> Element:
    """Both features with label and figures."""
    return el("div", _side(found.a), _side(found.b), cls="pair block")


def _side(one: FeatureSide) -> Element:
    row = one.row
    return el(
        "div",
        el("a", one.name, href=links.feature(row["dictionary_id"], row["feature_index"]), cls="mono"),
        label_line(one.label["label"] if one.label else None),
        score_block(score_of(one.label)),
        key_figures(firing_figures(row), compact=True),
        status_badge(row["status"]),
        cls="stack card",
    )


def verdict(found: Features) -> Element:
    """The matching results for the two, with their evidence."""
    if not found.pair:
        return section("Verdict", quiet(NO_PAIR))
    return section("Verdict", *(_method(row) for row in found.pair))


def _method(row: Mapping[str, Any]) -> Element:
    measure = "correlation" if "correlation" in row["method"] else "cosine"
    items = [
        Figure(measure, figures.decimal(row["score"]) + figures.interval(row)),
        Figure("margin", figures.decimal(row["margin"]), definitions.MARGIN),
        Figure("q", figures.significant(row["q_value"], 2), definitions.Q_VALUE),
        Figure("n", figures.count(row["n"]), "Segments or dimensions compared."),
    ]
    if row["floor_score"] is not None:
        floor = Figure("random direction", figures.decimal(row["floor_score"]), definitions.FLOOR_SCORE)
        items.insert(1, floor)
    mutual = "mutual best partners" if row["mutual"] else "one-sided"
    verdict = badge(verdict_words(row["verdict"]), strong=row["verdict"] == "same")
    return el(
        "div",
        el(
            "div",
            term(verdict, definitions.VERDICT),
            el("span", mutual, cls="quiet small"),
            cls="row",
        ),
        key_figures(items, compact=True),
        cls="stack",
    )
