"""What changed: what do features do differently on another model, on other texts, on another night?"""

import streamlit as st

from catalog import queries
from dashboards import change_data, data, frame
from dashboards.components import change_parts
from dashboards.components.blocks import notice
from dashboards.components.canvas import draw
from dashboards.components.sql_text import draw_sql
from dashboards.selection import ChangeSelection


def view() -> None:
    """Draw the page."""
    with frame.page("What changed") as shown:
        if shown.catalogue.empty:
            frame.empty_state()
            return
        asked = queries.comparisons()
        rows = data.rows(shown.catalogue, asked)
        if not rows:
            draw(notice(change_parts.NOTHING), key="nothing-compared")
            draw_sql({"Comparisons": asked})
            return
        row = change_data.chosen(rows, ChangeSelection.from_url(st.query_params.to_dict()))
        found = change_data.gather(shown.catalogue, row)
        shown.named(f"{row['comparison']} · What changed")
        draw(change_parts.comparisons(rows, row), key="comparisons")
        draw(*change_parts.headline(found), change_parts.shifts(found), key="changes")
        draw_sql({"Comparisons": asked, **found.queries})


view()
