"""SQL: query the catalogue freely; the query of the address runs contained."""

import streamlit as st

from dashboards import bound, console, frame
from dashboards.components import console_parts as parts
from dashboards.components.blocks import notice
from dashboards.components.canvas import draw
from dashboards.components.editor import EDITOR, draw_editor


def view() -> None:
    """Draw the page."""
    with frame.page("SQL") as shown:
        asked = bound.address()
        editor, schema = st.columns([5, 2], gap="large")
        with schema:
            names = console.relations()
            relation = asked["relation"] if asked.get("relation") in names else parts.RELATION
            bound.field(
                st.selectbox,
                "Table or view",
                names,
                key="sql-relation",
                value=relation,
                write=lambda address, name: {**address, "relation": name},
            )
            if console.note(relation):
                draw(notice(console.note(relation)), key="planned")
            draw(parts.column_list(console.columns(shown.catalogue, relation)), key="columns")
        with editor:
            write(asked)
            if "q" in asked:
                shown.named(f"{' '.join(asked['q'].split())[:60]} · SQL")
                with st.spinner("Running, at most 15 seconds"):
                    found = console.ask(shown.catalogue, asked["q"])
                answer(found)


def write(asked: bound.Parameters) -> None:
    """The examples and the editor; both write a query to the address."""
    text = asked.get("q", parts.EXAMPLES[0].sql)
    example = next((example for example in parts.EXAMPLES if example.sql == text), None)
    bound.field(
        st.pills,
        "Examples",
        [example.title for example in parts.EXAMPLES],
        key="sql-example",
        value=example.title if example else None,
        write=lambda address, title: {**address, "q": parts.example_sql(title)} if title else address,
    )
    if example:
        draw(parts.example_note(example), key="example-note")
    bound.hold(EDITOR, text)
    with st.form("console", border=False):
        draw_editor(height=200)
        st.form_submit_button("Run", on_click=run)


def run() -> None:
    """Write the query of the editor to the address; run it again if it is already there."""
    text = st.session_state[EDITOR]
    console.forget(text)
    bound.go({**bound.held(), "q": text})


def answer(found: console.Answer) -> None:
    """The rows with time and count and both downloads, or the sentence why there are none."""
    draw(parts.answer_line(found), key="answer-line")
    if found.files is None:
        return
    st.dataframe(found.table(), hide_index=True, key=f"result-{found.number}")
    with st.container(horizontal=True):
        st.download_button("Download CSV", found.files.csv, "featlas.csv", "text/csv", key="csv")
        st.download_button("Download Parquet", found.files.parquet, "featlas.parquet", key="parquet")


view()
