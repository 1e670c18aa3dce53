"""The catalogue: its tables, and how to write and read them.

It needs only Arrow, DuckDB, pydantic and the table-log library; no torch, no Prefect, no Streamlit.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from catalog.connection import connect

__all__ = ["connect"]


def __getattr__(name: str) -> Any:
    if name == "connect":
        from catalog.connection import connect

        return connect
    raise AttributeError(f"module 'catalog' has no attribute {name!r}")
