"""Overview: did last night go well, what changed, and what does the catalogue hold?"""

import streamlit as st

from catalog import queries
from dashboards import data, frame
from dashboards.components import overview_parts as parts
from dashboards.components.canvas import draw
from dashboards.components.filters import draw_change_pages
from dashboards.components.markup import el
from dashboards.components.sql_text import draw_sql

RUNS_SHOWN = 14
CHANGES_SHOWN = 8
PAGE_ROWS = 100


def view() -> None:
    """Draw the page."""
    with frame.page("Feature catalogue") as shown:
        if shown.catalogue.empty:
            frame.empty_state()
            return
        runs = data.runs(shown.catalogue, RUNS_SHOWN)
        changes = data.rows(shown.catalogue, queries.changes(per_kind=CHANGES_SHOWN))
        dictionaries = data.rows(shown.catalogue, queries.dictionaries())
        massive = data.rows(shown.catalogue, queries.massive_tokens())
        alarms = parts.alarms(data.rows(shown.catalogue, queries.alarms()))
        notices = [*alarms, *parts.troubles(runs), parts.last_run(runs), *parts.massive(massive)]
        draw(el("div", *notices, cls="stack wide-gap"), key="last-run")
        if not dictionaries:
            frame.empty_state()
        current = [row for row in dictionaries if row["is_current"]]
        superseded = [row for row in dictionaries if not row["is_current"]]
        draw(parts.model_sections(data.rows(shown.catalogue, queries.models()), current), key="dictionaries")
        if superseded:
            with st.expander(f"{len(superseded)} superseded dictionaries"):
                draw(parts.dictionary_cards(superseded), key="superseded")
        draw(
            parts.change_section(changes, data.rows(shown.catalogue, queries.runs(limit=RUNS_SHOWN))),
            key="changes",
        )
        every_change(shown.catalogue, changes)
        draw_sql(
            {
                "Dictionaries": queries.dictionaries(),
                "Changes": queries.changes(per_kind=1000, limit=1000),
                "Runs": queries.runs(limit=RUNS_SHOWN),
                "Alarms": queries.alarms(),
            }
        )


def every_change(catalogue: data.Catalogue, first: list[data.Row]) -> None:
    """All changes of the last run, folded unless all are shown already."""
    n_changes = parts.n_changes(first)
    if n_changes <= len(first):
        return
    with st.expander(f"All {n_changes} changes", key="every-change", on_change="rerun") as unfolded:
        if unfolded.open:
            page = draw_change_pages(-(-n_changes // PAGE_ROWS))
            offset = (page - 1) * PAGE_ROWS
            asked = queries.changes(per_kind=n_changes, limit=PAGE_ROWS, offset=offset)
            found = data.rows(catalogue, asked)
            draw(parts.change_table(found), key="changes-all")


view()
