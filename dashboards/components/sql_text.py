"""Under every page: the SQL it asked, ready to be copied into a shell."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboards.components.text_marks import visible


def draw_sql(queries: Mapping[str, tuple[str, Mapping[str, Any]]]) -> None:
    """An expander with each named query and the values of its parameters."""
    with st.expander("Show the SQL"):
        for title, (text, parameters) in queries.items():
            values = "".join(f"-- ${name} = {visible(_short(value))}\n" for name, value in parameters.items())
            st.caption(title)
            st.code(values + text.strip(), language="sql", wrap_lines=True)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 300 else shown[:300] + " …"
