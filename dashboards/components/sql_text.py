"""The SQL below every page, as statements that run in the console and in any DuckDB shell."""

from collections.abc import Mapping

import streamlit as st

from catalog.query import Query
from dashboards import links
from dashboards.components.canvas import draw
from dashboards.components.markup import el

SHOWN = "show-the-sql"


def draw_sql(queries: Mapping[str, Query]) -> None:
    """Each named query as a statement with a link that runs it in the console; drawn only when opened."""
    with st.expander("Show the SQL", key=SHOWN, on_change="rerun") as unfolded:
        if not unfolded.open:
            return
        for title, query in queries.items():
            statement = query.statement
            link = el("a", "Open in SQL", href=links.page("sql", q=statement))
            draw(el("div", el("h3", title), link, cls="row"), key=f"sql-{title}")
            st.code(statement, language="sql", wrap_lines=True)
