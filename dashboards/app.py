"""The feature catalogue in the browser: its pages."""

import streamlit as st

st.set_page_config(page_title="featlas", layout="wide", initial_sidebar_state="collapsed")

page = st.navigation(
    [
        st.Page("views/overview.py", title="Overview", default=True),
        st.Page("views/browse.py", title="Browse", url_path="browse"),
        st.Page("views/feature.py", title="Feature", url_path="feature", visibility="hidden"),
        st.Page("views/compare.py", title="Compare", url_path="compare"),
        st.Page("views/changes.py", title="What changed", url_path="changes"),
        st.Page("views/runs.py", title="Runs", url_path="runs"),
        st.Page("views/sql.py", title="SQL", url_path="sql"),
    ],
    position="top",
)
page.run()
