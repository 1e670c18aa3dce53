"""The parts of the compare page for two dictionaries."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dashboards import figures, links
from dashboards.comparison import Dictionaries
from dashboards.components import definitions
from dashboards.components.blocks import (
    Column,
    dictionary_term,
    label_text,
    quiet,
    section,
    table,
    verdict_words,
)
from dashboards.components.charts import Bar, Bin, bars, histogram
from dashboards.components.markup import Element, el

Row = Mapping[str, Any]

HOW = (
    "Name two dictionaries, or two features as DICTIONARY#FEATURE, and press Enter. "
    "The matches on a feature's page link here too."
)
MATCH_COLUMNS = (
    Column("first"),
    Column("second"),
    Column("score", number=True),
    Column("margin", definitions.MARGIN, number=True, wide=True),
    Column("q", definitions.Q_VALUE, number=True),
    Column("verdict", definitions.VERDICT),
)
FLOOR_COLUMNS = (
    Column("method"),
    Column("features of"),
    Column("compared", "Features whose best partner was tested.", number=True),
    Column("same", definitions.VERDICT, number=True),
    Column("same, random", definitions.FLOOR_SHARE, number=True),
    Column("median score", "Median score of the best partners.", number=True, wide=True),
    Column("median, random", definitions.FLOOR_SCORE, number=True, wide=True),
    Column("same above", definitions.SAME_ABOVE, number=True, wide=True),
)
STEPS = 20
MATCHES_SHOWN = 40
UNMATCHED_SHOWN = 12
UNMATCHED_COLUMNS = (Column("feature"), Column("label"), Column("density", definitions.DENSITY, number=True))


def rates(found: Dictionaries) -> Element:
    """For each side the share of firing features with a mutual match, by density."""

    def side(name: str, rows: Sequence[Row]) -> Element:
        items = [
            Bar(
                f"{figures.power_of_ten(row['decade'])} to {figures.power_of_ten(row['decade'] + 1)}",
                row["n_matched"] / row["n"],
                f"{figures.percent(row['n_matched'] / row['n'], 2)} of {figures.count(row['n'])}",
            )
            for row in rows
        ]
        total, matched = sum(row["n"] for row in rows), sum(row["n_matched"] for row in rows)
        share = figures.percent(matched / total if total else None, 2)
        said = f"{share} of {figures.count(total)} firing features"
        drawn = bars(items, full=1.0) if items else el("span", "no firing features", cls="quiet small")
        return el(
            "div",
            el("h3", dictionary_term(name)),
            el("span", said, cls="quiet small"),
            drawn,
            cls="stack",
        )

    body = el("div", side(found.a, found.rates_a), side(found.b, found.rates_b), cls="pair")
    return section(
        "Match rate",
        body,
        floors(found.floors),
        note="share of firing features with a mutual best match, by density",
    )


def floors(rows: Sequence[Row]) -> Element | None:
    """The share called the same next to the share that random directions reach, by method and direction."""
    if not rows:
        return None
    cells = [
        (
            row["method"].replace("_", " "),
            dictionary_term(row["dictionary_a"]),
            figures.count(row["n_features"]),
            figures.percent(row["share_same"], 2),
            figures.percent(row["floor_share_same"], 2),
            figures.decimal(row["median_score"]),
            figures.decimal(row["floor_median_score"]),
            figures.decimal(row["same_above"]),
        )
        for row in rows
    ]
    return table(FLOOR_COLUMNS, cells, name="Called the same, and by random directions", fold=True)


def score_distributions(found: Dictionaries) -> Element:
    """A histogram of scores per method."""
    parts = []
    for method in sorted({row["method"] for row in found.scores}):
        own = [row for row in found.scores if row["method"] == method]
        counts: Counter[int] = Counter()
        for row in own:
            counts[min(STEPS - 1, round(row["low"] * STEPS))] += row["n"]
        bins = [Bin(step / STEPS, (step + 1) / STEPS, counts[step]) for step in range(min(0, *counts), STEPS)]
        name = method.replace("_", " ")
        n_significant = sum(row["n_significant"] for row in own)
        said = f"{figures.count(counts.total())} mutual matches, {figures.count(n_significant)} with q ≤ 0.05"
        drawn = histogram(bins, name=f"Scores by {name}", unit="matches", along="score", logarithmic=False)
        parts.append(el("div", el("h3", name), el("span", said, cls="quiet small"), drawn, cls="stack"))
    if not parts:
        nothing = (
            "No two features of these dictionaries are mutual best matches. If they were never compared, "
            "run a pipeline that has both and a match section."
        )
        return section("Similarity", quiet(nothing))
    return section("Similarity", el("div", *parts, cls="pair"), note="scores of mutual matches")


def _cell(dictionary: str, index: int, label: str | None) -> Element:
    named = el("a", f"#{index}", href=links.feature(dictionary, index), cls="mono")
    return el("span", named, " ", label_text(label))


def match_table(found: Dictionaries) -> Iterator[Element]:
    """The strongest mutual matches, a table per method."""
    for method in sorted({row["method"] for row in found.matches}):
        rows = [
            (
                _cell(found.a, row["feature_a"], row["label_a"]),
                _cell(found.b, row["feature_b"], row["label_b"]),
                el(
                    "span",
                    el("a", figures.decimal(row["score"]), href=_pair_address(found, row)),
                    el("span", figures.interval(row), cls="quiet small"),
                ),
                figures.decimal(row["margin"]),
                figures.significant(row["q_value"], 2),
                el("span", verdict_words(row["verdict"]), cls="one-line"),
            )
            for row in found.matches
            if row["method"] == method
        ]
        note = f"by {method.replace('_', ' ')}"
        drawn = table(MATCH_COLUMNS, rows[:MATCHES_SHOWN], name=f"Matches {note}", fold=True)
        yield section("Strongest matches", drawn, note=note)


def _pair_address(found: Dictionaries, row: Row) -> str:
    return links.compare(f"{found.a}#{row['feature_a']}", f"{found.b}#{row['feature_b']}")


def unmatched(found: Dictionaries) -> Element:
    """Firing features without a mutual match, on each side."""

    def side(name: str, rows: Sequence[Row]) -> Element:
        cells = [
            (
                el(
                    "a",
                    f"#{row['feature_index']}",
                    href=links.feature(name, row["feature_index"]),
                    cls="mono",
                ),
                label_text(row["label"]),
                figures.percent(row["density"]),
            )
            for row in rows[:UNMATCHED_SHOWN]
        ]
        drawn = table(UNMATCHED_COLUMNS, cells, name=f"Unmatched features of {name}") if cells else None
        every = None if cells else quiet("Every firing feature has a match.")
        return el("div", el("h3", dictionary_term(name)), drawn, every, cls="stack")

    body = el("div", side(found.a, found.unmatched_a), side(found.b, found.unmatched_b), cls="pair")
    return section("Unmatched", body, note="best labelled first")
