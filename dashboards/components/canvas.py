"""Draws trees of elements in a page."""

from pathlib import Path

import streamlit as st

from dashboards.components.markup import Node, plain

_HERE = Path(__file__).parent
STYLE = (_HERE / "style.css").read_text(encoding="utf-8")

_drawing = st.components.v2.component(
    "featlas_drawing",
    html="<div class='root'></div>\n",
    css=STYLE,
    js=(_HERE / "drawing.js").read_text(encoding="utf-8"),
)


def draw(*nodes: Node, key: str) -> None:
    """Draw ``nodes`` at this position of the page; ``key`` is unique within the page.

    A plain click on an internal link opens its page without a reload; the browser handles other clicks.
    """
    _drawing(key=key, data={"nodes": [plain(node) for node in nodes]})
