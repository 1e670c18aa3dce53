"""Compare: are these two the same?"""

import streamlit as st

from catalog import queries
from dashboards import bound, data, frame
from dashboards.comparison import compare_dictionaries, compare_features, first_pair
from dashboards.components import compare_parts, dictionary_parts, pair_parts
from dashboards.components.blocks import heading, notice
from dashboards.components.canvas import draw
from dashboards.components.examples import band_of_side, bands_of
from dashboards.components.filters import draw_sides
from dashboards.components.heatmap import draw_heatmap
from dashboards.components.sql_text import draw_sql
from dashboards.selection import Side


def view() -> None:
    """Draw the page."""
    with frame.page("Compare") as shown:
        known = data.rows(shown.catalogue, queries.dictionaries())
        if not known:
            frame.empty_state()
            return
        selection = draw_sides(bound.address(), first_pair(shown.catalogue, known))
        shown.named(" × ".join(side.text for side in (selection.a, selection.b) if side) or "Compare")
        if selection.a is None or selection.b is None:
            draw(notice(compare_parts.HOW), key="how")
            return
        a, b = (resolved(shown.catalogue, side) for side in (selection.a, selection.b))
        if a.feature_index is None or b.feature_index is None:
            dictionaries(shown.catalogue, a, b)
        else:
            features(shown.catalogue, a, b)


def resolved(catalogue: data.Catalogue, side: Side) -> Side:
    """The side with a dictionary's id; reports an alias that referred to another one before."""
    frame.draw_alias(catalogue, side.dictionary)
    return Side(data.dictionary_id(catalogue, side.dictionary), side.feature_index)


def dictionaries(catalogue: data.Catalogue, a: Side, b: Side) -> None:
    """Measures of both, match rate by density, scores, the strongest matches, and features without one."""
    found = compare_dictionaries(catalogue, a.dictionary, b.dictionary)
    first, second = found.rows
    both = dictionary_parts.quality(first, second, found.metrics)
    similarity = compare_parts.score_distributions(found)
    matched = (*compare_parts.match_table(found), compare_parts.unmatched(found)) if found.scores else ()
    rates = (compare_parts.rates(found),) if found.scores else ()
    draw(both, *rates, similarity, *matched, key="compared")
    draw_sql(found.queries)


def features(catalogue: data.Catalogue, a: Side, b: Side) -> None:
    """Labels, verdict and evidence, shared contexts and examples on one scale of colour."""
    found = compare_features(catalogue, a, b)
    draw(pair_parts.sides(found), pair_parts.verdict(found), key="pair")
    if found.common:
        draw(heading("Shared contexts", pair_parts.SHARED_NOTE), key="shared-title")
        for column, side in zip(st.columns(2, gap="large"), "ab", strict=True):
            with column:
                draw_heatmap(
                    [band_of_side(found.common, side)],
                    found.scale(side),
                    key=f"shared-{side}",
                    documents=False,
                )
    draw(heading("Strongest contexts of each"), key="each-title")
    for column, one in zip(st.columns(2, gap="large"), (found.a, found.b), strict=True):
        with column:
            top = bands_of([row for row in one.examples if row["band"] == "top"])
            if top:
                draw_heatmap(top, one.largest, key=f"top-{one.name}", documents=False)
            else:
                draw(notice("No examples: it never fired."), key=f"none-{one.name}")
    draw_sql(found.queries)


view()
