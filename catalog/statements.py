"""Parametrised SQL as a complete statement, its values written as literals.

``literal`` is the only place where a value becomes SQL text.
"""

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

# Control, format, surrogate and private characters, and line separators: they are invisible to a reader.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_PARAMETER = re.compile(r"\$(\w+)")


def literal(value: Any) -> str:
    """A value as SQL text: null, boolean, number, text, or a list of these.

    Invisible characters of a text are written by number, so that what a person reads is what runs.

    Raises:
        TypeError: for any other kind of value.
    """
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(literal(item) for item in value)}]"
    raise TypeError(f"a {type(value).__name__} cannot be written as a literal")


def bound(text: str, parameters: Mapping[str, Any]) -> str:
    """``text`` with every ``$name`` replaced by the literal of its parameter.

    Raises:
        KeyError: for a ``$name`` without a parameter.
    """
    return _PARAMETER.sub(lambda found: literal(parameters[found[1]]), text).strip()


def _number(value: float) -> str:
    """With an exponent, because a number without one is a decimal and not a double."""
    if not math.isfinite(value):
        return f"'{value}'::DOUBLE"
    written = repr(value)
    return written if "e" in written else f"{written}e0"


def _text(value: str) -> str:
    parts, plain = [], ""
    for character in value:
        if unicodedata.category(character) not in _HIDDEN:
            plain += character
            continue
        if plain:
            parts.append(_quoted(plain))
        code = 0xFFFD if unicodedata.category(character) == "Cs" else ord(character)
        parts.append(f"chr({code})")
        plain = ""
    if plain or not parts:
        parts.append(_quoted(plain))
    return parts[0] if len(parts) == 1 else f"({' || '.join(parts)})"


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
