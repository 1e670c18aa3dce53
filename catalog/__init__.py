"""The catalogue: what the data is, how it is written and how it is read.

Needs only Arrow, DuckDB, pydantic and the table-log library; no torch, no Prefect, no Streamlit.
"""
