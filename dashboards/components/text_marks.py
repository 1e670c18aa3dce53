"""Makes characters that hide or reorder text visible.

Corpus text may hold control characters, zero-width characters and bidirectional overrides. Drawn unchanged
they vanish or reverse the line. Here each becomes a separate run with a visible mark.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

_NAMED = {"\n": "↵", "\r": "␍", "\t": "⇥", "\x7f": "␡"}
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Joiners inside an emoji sequence or a word of an Indic script are part of the visible text.
_JOINER = "\u200d"


class Run(NamedTuple):
    """A stretch of text; ``mark`` says that it represents hidden characters."""

    text: str
    mark: bool


def mark_of(character: str) -> str | None:
    """The mark for a hidden character; ``None`` for a visible one."""
    if character in _NAMED:
        return _NAMED[character]
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if unicodedata.category(character) in _HIDDEN_CATEGORIES:
        return f"⟨{code:04X}⟩"
    return None


def runs(value: str) -> Iterator[Run]:
    """``value`` as stretches of plain text and of marks, in order.

    A zero-width joiner between two visible characters (as in a family emoji) stays as it is.
    """
    plain: list[str] = []
    for position, character in enumerate(value):
        mark = mark_of(character)
        if mark is not None and character == _JOINER and 0 < position < len(value) - 1:
            mark = None if ord(value[position - 1]) > 0x2000 else mark
        if mark is None:
            plain.append(character)
            continue
        if plain:
            yield Run("".join(plain), False)
            plain = []
        yield Run(mark, True)
    if plain:
        yield Run("".join(plain), False)


def visible(value: str) -> str:
    """``value`` with every hidden character replaced by its mark; spaces stay."""
    return "".join(run.text for run in runs(value))


def label_words(value: str) -> str:
    """A label as text: hidden characters as marks, and repeated spaces as small dots."""
    return re.sub(" {2,}", lambda found: "·" * len(found[0]), visible(value))


def special_name(text: str, token_id: int) -> str:
    """The text for a special token: its own text, such as that of a template, else its id."""
    return visible(text) if text else f"special {token_id}"


def token_label(value: str) -> str:
    """A token as a label: hidden characters as marks and spaces as a small dot."""
    return visible(value).replace(" ", "·") if value else "∅"
