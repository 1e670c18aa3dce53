"""A full document in a dialog, with the text of the example marked."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboards import figures
from dashboards.components.blocks import notice
from dashboards.components.canvas import draw
from dashboards.components.markup import Element, el
from dashboards.components.text_marks import mark_of

CHARACTERS_AROUND = 20_000


def document_text(text: str, start: int, end: int) -> Element:
    """The text with the characters from ``start`` to ``end`` marked; cuts distant parts of a long text."""
    first, last = max(0, start - CHARACTERS_AROUND), min(len(text), end + CHARACTERS_AROUND)
    before = ("…" if first else "") + _shown(text[first:start])
    after = _shown(text[end:last]) + ("…" if last < len(text) else "")
    return el("div", before, el("mark", _shown(text[start:end])), after, cls="document")


def _shown(text: str) -> str:
    """Hidden characters as marks; line ends and tabs stay as they are."""
    return "".join(
        character if character in "\n\t" else mark_of(character) or character for character in text
    )


@st.dialog("Document", width="large")
def document_dialog(row: Mapping[str, Any] | None, start: int, end: int) -> None:
    """Show a row of ``documents``."""
    if row is None:
        draw(notice("The text of this document is not in the catalogue."), key="no-document")
        return
    if not row["n_chars"]:
        draw(notice(f"Document {row['document_id']} was forgotten: its text was removed."), key="no-text")
        return
    labels = ", ".join(f"{name}: {value}" for name, value in (row["labels"] or []))
    said = f"{row['document_id']}, {figures.count(row['n_chars'])} characters, {row['split']} split" + (
        f", {labels}" if labels else ""
    )
    draw(el("p", said, cls="quiet small"), document_text(row["text"], start, end), key="document")
