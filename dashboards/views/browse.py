"""Browse: what features are there?"""

from dataclasses import replace

import streamlit as st

from dashboards import data, frame, links
from dashboards.components import browse_parts as parts
from dashboards.components import dictionary_parts
from dashboards.components.blocks import notice
from dashboards.components.canvas import draw
from dashboards.components.filters import draw_filters
from dashboards.components.sql_text import draw_sql
from dashboards.selection import PAGE_ROWS, BrowseSelection


def view() -> None:
    """Draw the page."""
    with frame.page("Browse") as shown:
        if shown.catalogue.empty:
            frame.empty_state()
            return
        asked = BrowseSelection.from_url(st.query_params.to_dict())
        known = data.rows(shown.catalogue, "dictionaries")
        selection = draw_filters(asked, known)
        if selection != asked:
            selection = replace(selection, page=1)
        st.query_params.from_dict(selection.to_url())
        chosen = data.dictionary_id(shown.catalogue, selection.dictionary) if selection.dictionary else None
        queries = about(shown.catalogue, next((row for row in known if row["dictionary_id"] == chosen), None))
        parameters = parts.query_parameters(chosen, selection)
        rows = data.rows(shown.catalogue, "browse", **parameters)
        if rows:
            draw(parts.found_line(rows, selection), parts.feature_table(rows, selection), key="features")
            turn_pages(rows[0]["n_found"], selection)
        else:
            draw(notice(parts.NOTHING, parts.show_all(links.page("browse"))), key="nothing")
        draw_sql({"Features": data.query("browse", **parameters), **queries})


def about(catalogue: data.Catalogue, row: data.Row | None) -> dict[str, data.Query]:
    """What is known of the chosen dictionary as a whole, folded up; its queries."""
    if row is None:
        return {}
    of_it = {"dictionary_ids": (row["dictionary_id"],)}
    with st.expander(f"About this dictionary: {dictionary_parts.summary(row)}"):
        draw(
            *dictionary_parts.about(row, data.rows(catalogue, "dictionary_metrics", **of_it)),
            key=f"about-{row['dictionary_id']}",
        )
    return {"Measures": data.query("dictionary_metrics", **of_it)}


def turn_pages(n_found: int, selection: BrowseSelection) -> None:
    """Steps through the pages of the table."""
    n_pages = -(-n_found // PAGE_ROWS)
    if n_pages > 1:
        number = st.pagination(n_pages, default=min(selection.page, n_pages), key=f"page={selection}")
        if number != selection.page:
            st.query_params.from_dict(replace(selection, page=number).to_url())
            st.rerun()


view()
