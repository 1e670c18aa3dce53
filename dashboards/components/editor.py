"""The look of the SQL editor: a fixed-width font in its text area."""

import streamlit as st

EDITOR = "sql-text"
_CSS = f""".st-key-{EDITOR} textarea {{
  font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace;
}}"""

_look = st.components.v2.component(
    "featlas_editor_look", html="<span hidden></span>\n", css=_CSS, isolate_styles=False
)


def draw_editor(height: int) -> None:
    """The text area, inside a form. Its text is ``st.session_state[EDITOR]``."""
    _look(key="editor-look")
    st.text_area("Query", key=EDITOR, height=height)
