"""The values of document labels to which a feature is related, as bars from chance."""

from collections.abc import Mapping, Sequence
from typing import Any

from dashboards import figures
from dashboards.components import definitions
from dashboards.components.blocks import quiet, section, term
from dashboards.components.charts import Bar, bars
from dashboards.components.markup import Element, Node, el
from dashboards.components.text_marks import visible

Row = Mapping[str, Any]
CHANCE = 0.5
REASONS_SHOWN = 3
NOT_RELATED = (
    "No document label was related to the features of this set: its documents have no labels, or the stage "
    "associate_labels did not run on it."
)


def associations(rows: Sequence[Row], tests: Row | None) -> Element:
    """A bar for each value, from AUROC 0.5, with counts and q; the reason where there is none.

    Args:
        rows: Rows of the query ``feature_associations``.
        tests: The row of ``association_tests``; read only where ``rows`` is empty.
    """
    if not rows:
        return section("Document labels", *reasons(tests))
    documents = {row["label"]: row["n_documents"] for row in rows}
    counted = ", ".join(f"{figures.count(n)} with {visible(label)}" for label, n in documents.items())
    heads = el("span", term("AUROC", definitions.AUROC), cls="quiet small")
    note = f"documents: {counted}"
    return section("Document labels", heads, bars([_bar(row) for row in rows], full=CHANCE), note=note)


def _bar(row: Row) -> Bar:
    name = el("span", f"{visible(row['label'])} = {visible(row['value'])}", cls="isolate")
    others_firing = row["n_firing"] - row["n_both"]
    others = row["n_documents"] - row["n_value"]
    fires = (
        f"fires in {figures.count(row['n_both'])} of {figures.count(row['n_value'])}, "
        f"{figures.count(others_firing)} of {figures.count(others)} others, "
    )
    q = term(f"q = {figures.significant(row['q_value'], 2)}", definitions.ASSOCIATION_Q)
    ratio: Node = ""
    if row["mi_ratio"] is not None:
        ratio = term(f"information × {figures.significant(row['mi_ratio'], 2)}", definitions.MI_RATIO)
    said = el("span", fires, q, ", " if ratio else "", ratio, cls="quiet small")
    label = el("span", name, said, cls="stack")
    return Bar(label, row["auroc"] - CHANCE, figures.decimal(row["auroc"]))


def reasons(tests: Row | None) -> list[Element]:
    """Why a feature has no association."""
    if tests is None or tests["n_tests"] is None:
        return [quiet(NOT_RELATED)]
    if tests["n_tests"]:
        least = figures.count(tests["min_documents"])
        return [quiet(f"It fires in fewer than {least} documents with a label, too few to test.")]
    left_out = [quiet(visible(why)) for why in (tests["skipped"] or ())[:REASONS_SHOWN]]
    return [quiet("No label of these documents could be tested."), *left_out]
