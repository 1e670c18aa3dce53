"""SQL: ask the catalogue anything; the query runs contained."""

import streamlit as st

from dashboards import console, frame
from dashboards.components import console_parts as parts
from dashboards.components.canvas import draw
from dashboards.components.editor import EDITOR, draw_editor


def view() -> None:
    """Draw the page."""
    with frame.page("SQL") as shown:
        editor, schema = st.columns([5, 2], gap="large")
        with schema:
            names = console.relations()
            relation = st.selectbox("Table or view", names, names.index("feature_cards"), key="relation")
            draw(parts.column_list(console.columns(shown.catalogue, relation)), key="columns")
        with editor:
            st.session_state.setdefault(EDITOR, st.query_params.get("q") or parts.EXAMPLES[0].sql)
            picked = st.pills(
                "Examples",
                [example.title for example in parts.EXAMPLES],
                key="example",
                on_change=take_example,
            )
            if picked:
                draw(parts.example_note(picked), key="example-note")
            with st.form("console", border=False):
                text = draw_editor(height=200)
                asked = st.form_submit_button("Run", type="primary")
            if asked:
                with st.spinner("Running, at most 15 seconds"):
                    st.session_state["answer"] = console.ask(text)
            if "answer" in st.session_state:
                answer(st.session_state["answer"])


def take_example() -> None:
    """Put the picked example into the editor."""
    picked = st.session_state["example"]
    for example in parts.EXAMPLES:
        if example.title == picked:
            st.session_state[EDITOR] = example.sql


def answer(found: console.Answer) -> None:
    """The rows with time and count and both downloads, or the sentence why there are none."""
    draw(parts.answer_line(found), key="answer-line")
    if found.table is None:
        return
    st.dataframe(found.table, hide_index=True, key=f"result-{found.number}")
    with st.container(horizontal=True):
        st.download_button("Download CSV", found.csv, "featlas.csv", "text/csv", key="csv")
        st.download_button("Download Parquet", found.parquet, "featlas.parquet", key="parquet")


view()
