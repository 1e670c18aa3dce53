"""The switch between the activation sets on which a feature was looked at."""

from collections.abc import Mapping, Sequence
from typing import Any

from dashboards import figures, links
from dashboards.components.blocks import Column, heading, table, term
from dashboards.components.feature_parts import score_of
from dashboards.components.markup import Element, Node, el
from dashboards.components.scores import score_block

Row = Mapping[str, Any]
COLUMNS = (
    Column("set", "Model, hookpoint and corpus on which the dictionary was looked at."),
    Column("density", "Share of valid tokens on which the feature fires there.", number=True),
    Column("largest", "Largest activation there.", number=True),
    Column("score", "Score of its label there.", number=True, wide=True),
)


def set_name(row: Row) -> str:
    """Model and corpus of a set, for people."""
    return f"{row['set_model_id'] or 'unknown model'} on {row['corpus_id'] or 'unknown corpus'}"


def switch(dictionary: str, feature_index: int, shown: str, rows: Sequence[Row]) -> list[Element]:
    """A table of the sets with a link to the feature on each; nothing where there is only one.

    Args:
        dictionary: Dictionary as the address names it.
        feature_index: The feature.
        shown: Id of the set that the page shows.
        rows: Rows of the query ``feature_sets``.
    """
    if len(rows) < 2:
        return []
    cells = [_cells(dictionary, feature_index, shown, row) for row in rows]
    note = f"looked at on {len(rows)} activation sets"
    return [heading("Activation sets", note), table(COLUMNS, cells, name="Activation sets", fold=True)]


def _grown(row: Row) -> str:
    """How many documents of a corpus that grows the set holds; nothing for another corpus."""
    n = row["n_generations"]
    if n is None:
        return ""
    return (
        f", {'reading 1' if n == 1 else f'readings 1 to {n}'}: {figures.count(row['n_documents'])} documents"
    )


def _cells(dictionary: str, feature_index: int, shown: str, row: Row) -> tuple[Node, ...]:
    is_shown = row["activation_set_id"] == shown
    href = links.feature(dictionary, feature_index, None if row["is_home"] else row["activation_set_id"])
    link = el("a", set_name(row), href=href, aria_current="true" if is_shown else None)
    if row["is_home"]:
        where = term("home", "The set on which the dictionary was trained.")
    else:
        where = term(row["set_hookpoint"] or "other set", row["activation_set_id"])
    said = el("span", where, _grown(row), cls="quiet small")
    named = el("div", el("strong", link) if is_shown else link, said, cls="stack")
    return (
        named,
        figures.percent(row["density"]),
        figures.significant(row["max_activation"]),
        score_block(score_of(row), brief=True) if row["label"] else el("span", "no label", cls="quiet small"),
    )
