"""Prompts, with corpus text fenced so that it stays data.

A prompt is named by its file in ``prompts/`` or is the text itself: the system message, a line ``---``, the
user message.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from string import Template

from tasks.autointerp.chat import Message
from tasks.autointerp.lexicon.vocabulary import Bools

MARKS = (("«", "»"), ("⟦", "⟧"), ("≪", "≫"), ("❰", "❱"), ("⦃", "⦄"), ("⟪", "⟫"))
MARK_SHARE = 0.3
"""A token is marked above this share of the feature's largest activation, or of the window's if none is."""


_BETWEEN = "\n---\n"


@cache
def _parts(prompt: str) -> tuple[str, str]:
    text = prompt
    if _BETWEEN not in prompt:
        text = (files("tasks.autointerp.prompts") / f"{prompt}.md").read_text("utf-8")
    system, _, user = text.partition(_BETWEEN)
    return system.strip(), user.strip()


def text_digest(prompt: str) -> str:
    """SHA-256 of a prompt's text."""
    return hashlib.sha256(_BETWEEN.join(_parts(prompt)).encode()).hexdigest()


def fill(prompt: str, **values: object) -> list[Message]:
    """The two messages of a prompt; ``$name`` in the values stays as it is."""
    system, user = (Template(part).substitute(values) for part in _parts(prompt))
    return [Message("system", system), Message("user", user)]


def fence(kind: str, text: str, nonce: str) -> str:
    """Text between tags that the text cannot contain."""
    return f"<{kind}-{nonce}>\n{text}\n</{kind}-{nonce}>"


def choose_marks(texts: Sequence[str]) -> tuple[str, str]:
    """A pair of marks that occurs in none of the texts; the first pair if all of them do."""
    together = "".join(texts)
    for pair in MARKS:
        if pair[0] not in together and pair[1] not in together:
            return pair
    return MARKS[0]


def marked(tokens: Sequence[str], chosen: Bools, marks: tuple[str, str]) -> str:
    """The text with each run of chosen tokens between marks."""
    pieces: list[str] = []
    inside = False
    for token, is_chosen in zip(tokens, chosen.tolist(), strict=True):
        if is_chosen != inside:
            pieces.append(marks[0] if is_chosen else marks[1])
            inside = is_chosen
        pieces.append(token)
    if inside:
        pieces.append(marks[1])
    return "".join(pieces)
