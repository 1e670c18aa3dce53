"""Browse: which features are there?"""

import streamlit as st

from catalog import queries
from catalog.query import Query
from dashboards import bound, data, frame, links, nearest
from dashboards.components import browse_parts as parts
from dashboards.components import dictionary_parts
from dashboards.components.blocks import notice
from dashboards.components.canvas import draw
from dashboards.components.filters import draw_filters, draw_pages
from dashboards.components.sql_text import draw_sql
from dashboards.selection import PAGE_ROWS, BrowseSelection


def view() -> None:
    """Draw the page."""
    with frame.page("Browse") as shown:
        if shown.catalogue.empty:
            frame.empty_state()
            return
        if bound.JUMP in st.session_state:
            st.switch_page("views/feature.py", query_params=st.session_state.pop(bound.JUMP))
        selection = BrowseSelection.from_url(bound.address())
        named = (f"“{selection.q}”" if selection.q else "", selection.dictionary or "")
        shown.named(" · ".join(("Browse", *filter(None, named))))
        known = data.rows(shown.catalogue, queries.dictionaries())
        draw_filters(selection, known)
        chosen = data.dictionary_id(shown.catalogue, selection.dictionary) if selection.dictionary else None
        frame.draw_alias(shown.catalogue, selection.dictionary)
        measures = about(
            shown.catalogue, next((row for row in known if row["dictionary_id"] == chosen), None)
        )
        query = parts.browse_query(chosen, selection)
        rows = data.rows(shown.catalogue, query)
        if rows:
            shown.top = f"page {selection.page}"
            draw(parts.found_line(rows, selection), parts.feature_table(rows, selection), key="features")
            n_pages = -(-rows[0]["n_found"] // PAGE_ROWS)
            if n_pages > 1:
                draw_pages(n_pages, selection)
        else:
            draw(notice(parts.NOTHING, parts.show_all(links.page("browse"))), key="nothing")
            words = selection.words or ((selection.token.lower(),) if selection.token else ())
            near, labels = nearest.gather(shown.catalogue, chosen, words)
            draw(parts.nearest(near, labels, selection), key="nearest")
        draw_sql({"Features": query, **measures})


def about(catalogue: data.Catalogue, row: data.Row | None) -> dict[str, Query]:
    """The data of the selected dictionary, folded; its queries."""
    if row is None:
        return {}
    metrics = queries.dictionary_metrics(dictionary_ids=(row["dictionary_id"],))
    with st.expander(f"About this dictionary: {dictionary_parts.summary(row)}"):
        draw(
            *dictionary_parts.about(row, data.rows(catalogue, metrics)),
            key=f"about-{row['dictionary_id']}",
        )
    return {"Measures": metrics}


view()
