"""Keys that work on every page: ``j`` and ``k``, ``/`` and ``?``."""

from pathlib import Path

import streamlit as st

from dashboards import links
from dashboards.components.canvas import STYLE

_HERE = Path(__file__).parent
KEYS = (
    ("j", "next feature"),
    ("k", "previous feature"),
    ("r", "a random feature"),
    ("/", "search features"),
    ("?", "this help"),
    ("Esc", "close"),
)

_keyboard = st.components.v2.component(
    "featlas_keyboard",
    html="<div class='root'></div>\n",
    css=STYLE + (_HERE / "keyboard.css").read_text(encoding="utf-8"),
    js=(_HERE / "keyboard.js").read_text(encoding="utf-8"),
)


def draw_keyboard(
    previous: str | None = None, following: str | None = None, anywhere: str = "", top: str = ""
) -> None:
    """Listen for the keys; ``previous``, ``following``, ``anywhere`` are addresses for ``k``, ``j``, ``r``.

    If ``top`` changed, the page scrolls to its top.
    """
    _keyboard(
        key="keyboard",
        data={
            "k": previous,
            "j": following,
            "r": anywhere,
            "top": top,
            "search": links.page("browse"),
            "field": links.SEARCH_LABEL,
            "keys": [list(pair) for pair in KEYS],
        },
    )
