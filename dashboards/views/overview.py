"""Overview: did last night go well, what changed, and what does the catalogue hold?"""

import streamlit as st

from dashboards import data, frame
from dashboards.components import overview_parts as parts
from dashboards.components.canvas import draw
from dashboards.components.sql_text import draw_sql

RUNS_SHOWN = 14


def view() -> None:
    """Draw the page."""
    with frame.page("Feature catalogue") as shown:
        if shown.catalogue.empty:
            frame.empty_state()
            return
        runs = data.runs(shown.catalogue, RUNS_SHOWN)
        changes = data.rows(shown.catalogue, "changes")
        dictionaries = data.rows(shown.catalogue, "dictionaries")
        draw(*parts.troubles(runs), parts.last_run(runs), key="last-run")
        if not dictionaries:
            frame.empty_state()
        current = [row for row in dictionaries if row["is_current"]]
        superseded = [row for row in dictionaries if not row["is_current"]]
        draw(parts.model_sections(data.rows(shown.catalogue, "models"), current), key="dictionaries")
        if superseded:
            with st.expander(f"{len(superseded)} superseded dictionaries"):
                draw(parts.dictionary_cards(superseded), key="superseded")
        draw(
            parts.change_section(changes, data.rows(shown.catalogue, "runs", limit=RUNS_SHOWN)), key="changes"
        )
        draw_sql(
            {
                "Dictionaries": data.query("dictionaries"),
                "Changes": data.query("changes"),
                "Runs": data.query("runs", limit=RUNS_SHOWN),
            }
        )


view()
