"""Examples of a feature as lines of text with a heat-map over their tokens."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import streamlit as st

from dashboards import figures
from dashboards.components.canvas import STYLE
from dashboards.components.text_marks import runs, token_label

_HERE = Path(__file__).parent
DEFAULT_CONTEXT = 24
LINES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Token:
    """What is drawn as one unit: a token, or the tokens that share one character."""

    text: str
    activation: float
    token_ids: tuple[int, ...]
    activations: tuple[float, ...]

    @property
    def split(self) -> bool:
        """Whether several tokens share this text, which therefore cannot be divided between them."""
        return len(self.token_ids) > 1


@dataclass(frozen=True, slots=True)
class Line:
    """One example: its tokens, the drawn token that peaks, and where it comes from."""

    tokens: tuple[Token, ...]
    peak: int
    max_activation: float
    document_id: str
    char_start: int
    char_end: int
    split: str
    name: str = ""
    """Its band and rank, as the address of the page names it."""

    @property
    def cut(self) -> tuple[bool, bool]:
        """Whether the text goes on before and after it, as far as can be told: within a word it does."""
        last = self.tokens[-1].text[-1:] if self.tokens else ""
        return self.char_start > 0, last.isalnum()


@dataclass(frozen=True, slots=True)
class Band:
    """A group of examples under one title."""

    title: str
    note: str
    lines: tuple[Line, ...]


class Place(NamedTuple):
    """A stretch of a document, in characters."""

    document_id: str
    start: int
    end: int


def group_tokens(texts: Sequence[str], token_ids: Sequence[int], activations: Sequence[float]) -> list[Token]:
    """Join the further tokens of one character (stored with an empty text) to the token that shows it."""
    grouped: list[Token] = []
    for piece, token_id, activation in zip(texts, token_ids, activations, strict=True):
        if piece == "" and grouped:
            last = grouped[-1]
            ids, values = (*last.token_ids, token_id), (*last.activations, activation)
            grouped[-1] = Token(last.text, max(values), ids, values)
        else:
            grouped.append(Token(piece, activation, (token_id,), (activation,)))
    return grouped


def peak_of(texts: Sequence[str], peak_position: int) -> int:
    """The drawn token that holds the stored token ``peak_position``."""
    shown = [position for position, piece in enumerate(texts) if position == 0 or piece != ""]
    return sum(position <= peak_position for position in shown) - 1


def _tip(token: Token) -> list[str]:
    ids = ", ".join(str(token_id) for token_id in token.token_ids)
    values = ", ".join(figures.significant(value) for value in token.activations)
    tip = [token_label(token.text), f"id {ids}", f"activation {values}"]
    return [*tip, f"{len(token.token_ids)} tokens share this text"] if token.split else tip


def _line_data(line: Line, scale: float) -> dict[str, object]:
    tokens = [
        {
            "runs": [[run.text, run.mark] for run in runs(token.text)] or [["∅", True]],
            "heat": _heat(token.activation, scale),
            "tip": _tip(token),
            "split": token.split,
        }
        for token in line.tokens
    ]
    return {
        "tokens": tokens,
        "peak": line.peak if line.max_activation > 0 else None,
        "focus": line.peak,
        "value": figures.significant(line.max_activation) if line.max_activation > 0 else "0",
        "document": line.document_id,
        "span": [line.char_start, line.char_end],
        "split": line.split,
        "name": line.name,
        "cut": list(line.cut),
    }


def _heat(activation: float, scale: float) -> float:
    """Depth of colour: the root of the share of the maximum, so that 10 % and 25 % can be told apart."""
    share = 0.0 if scale <= 0 else min(1.0, max(0.0, activation / scale))
    return round(math.sqrt(share), 4)


def heatmap_data(
    bands: Sequence[Band], scale: float, *, documents: bool = True, target: str | None = None
) -> dict[str, object]:
    """What the browser draws: colour depends on activation over ``scale``, the feature's maximum.

    The first band is open, and the one that holds the example ``target``.
    """
    return {
        "bands": [
            {
                "title": band.title,
                "note": band.note,
                "lines": [_line_data(line, scale) for line in band.lines],
            }
            for band in bands
        ],
        "scale": figures.significant(scale),
        "context": DEFAULT_CONTEXT,
        "longest": max((len(line.tokens) for band in bands for line in band.lines), default=1),
        "shown": LINES_SHOWN,
        "documents": documents,
        "target": target,
    }


_heatmap = st.components.v2.component(
    "featlas_heatmap",
    html="<div class='root'></div>\n",
    css=STYLE + (_HERE / "heatmap.css").read_text(encoding="utf-8"),
    js=(_HERE / "heatmap.js").read_text(encoding="utf-8"),
)


def draw_heatmap(
    bands: Sequence[Band], scale: float, *, key: str, documents: bool = True, target: str | None = None
) -> Place | None:
    """Draw the examples; returns the place whose document this click asked for."""
    result = _heatmap(
        key=key,
        data=heatmap_data(bands, scale, documents=documents, target=target),
        on_document_change=lambda: None,
    )
    asked = result.document
    return Place(str(asked["document"]), int(asked["start"]), int(asked["end"])) if asked else None
