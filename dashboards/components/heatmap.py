"""Examples of a feature as lines of text with a heat-map over their tokens."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import streamlit as st

from dashboards import figures
from dashboards.components.canvas import STYLE
from dashboards.components.text_marks import runs, special_name, token_label

_HERE = Path(__file__).parent
DEFAULT_CONTEXT = 24
LINES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Token:
    """A unit of drawing: a token, or the tokens that share one character."""

    text: str
    activation: float
    token_ids: tuple[int, ...]
    activations: tuple[float, ...]
    special: bool = False
    """Whether it has no text, like BOS, or is a control token of a template."""

    @property
    def split(self) -> bool:
        """Whether several tokens share this text, so that it cannot be divided between them."""
        return len(self.token_ids) > 1


@dataclass(frozen=True, slots=True)
class Line:
    """One example: its tokens, the drawn token at the peak, and its source."""

    tokens: tuple[Token, ...]
    peak: int
    max_activation: float
    document_id: str
    char_start: int
    char_end: int
    split: str
    name: str = ""
    """Its band and rank, as the address of the page names them."""
    text_before: int | None = None
    """Tokens of text that the model read before it; None if that was not stored."""

    @property
    def cut(self) -> tuple[bool, bool]:
        """Whether the text continues before and after it, as far as known: within a word it does.

        If the model read nothing before, a document or a part of one starts here, possibly within a word.
        """
        text = "".join(token.text for token in self.tokens if not token.special)
        within = self.char_start > 0 and text[:1].isalnum()
        read = self.char_start > 0 if self.text_before is None else self.text_before > 0
        return read or within, text[-1:].isalnum()


@dataclass(frozen=True, slots=True)
class Band:
    """A group of examples under one title."""

    title: str
    note: str
    lines: tuple[Line, ...]


class Place(NamedTuple):
    """A range of characters in a document."""

    document_id: str
    start: int
    end: int


def group_tokens(
    texts: Sequence[str],
    token_ids: Sequence[int],
    activations: Sequence[float],
    special: Sequence[bool] | None = None,
) -> list[Token]:
    """Join the further tokens of one character (stored with an empty text) to the token that shows it.

    A special token has an empty text too; it is drawn separately if ``special`` is known.
    """
    flags = _flags(texts, special)
    starts = [*_starts(texts, flags), len(texts)]
    grouped = []
    for first, end in itertools.pairwise(starts):
        values = tuple(activations[first:end])
        grouped.append(Token(texts[first], max(values), tuple(token_ids[first:end]), values, flags[first]))
    return grouped


def peak_of(texts: Sequence[str], peak_position: int, special: Sequence[bool] | None = None) -> int:
    """The drawn token that holds the stored token ``peak_position``."""
    starts = _starts(texts, _flags(texts, special))
    return sum(position <= peak_position for position in starts) - 1


def _flags(texts: Sequence[str], special: Sequence[bool] | None) -> Sequence[bool]:
    return [False] * len(texts) if special is None else special


def _starts(texts: Sequence[str], special: Sequence[bool]) -> list[int]:
    """Positions of the stored tokens that start a drawn one."""
    return [
        place
        for place, piece in enumerate(texts)
        if place == 0 or piece != "" or special[place] or special[place - 1]
    ]


def _tip(token: Token) -> list[str]:
    ids = ", ".join(str(token_id) for token_id in token.token_ids)
    values = ", ".join(figures.significant(value) for value in token.activations)
    tip = [_marks(token) or token_label(token.text), f"id {ids}", f"activation {values}"]
    return [*tip, f"{len(token.token_ids)} tokens share this text"] if token.split else tip


def _marks(token: Token) -> str:
    """The text that represents a special token: its name, else its id; empty for other tokens."""
    return special_name(token.text, token.token_ids[0]) if token.special else ""


def _line_data(line: Line, scale: float) -> dict[str, object]:
    tokens = [
        {
            "runs": _runs(token),
            "special": token.special,
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


def _runs(token: Token) -> list[list[str | bool]]:
    if token.special:
        return [[_marks(token), True]]
    return [[run.text, run.mark] for run in runs(token.text)] or [["∅", True]]


def _heat(activation: float, scale: float) -> float:
    """Depth of colour: the square root of the share of the maximum, so that 10 % and 25 % look different."""
    share = 0.0 if scale <= 0 else min(1.0, max(0.0, activation / scale))
    return round(math.sqrt(share), 4)


def heatmap_data(
    bands: Sequence[Band], scale: float, *, documents: bool = True, target: str | None = None
) -> dict[str, object]:
    """The data for the browser: colour depends on activation over ``scale``, the feature's maximum.

    The first band is open, and so is the one that contains the example ``target``.
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
    """Draw the examples; return the range whose document this click requested."""
    result = _heatmap(
        key=key,
        data=heatmap_data(bands, scale, documents=documents, target=target),
        on_document_change=lambda: None,
    )
    asked = result.document
    return Place(str(asked["document"]), int(asked["start"]), int(asked["end"])) if asked else None
