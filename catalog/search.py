"""Lexical search over labels: all words must occur; whole words and well-scored labels come first."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog.errors import UserError
from catalog.queries import search_labels

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MAX_WORDS = 12


@dataclass(frozen=True, slots=True)
class Hit:
    """A feature whose label matches; ``spans`` are the (start, end) characters of the label to highlight."""

    dictionary_id: str
    feature_index: int
    label: str
    spans: tuple[tuple[int, int], ...]
    score: float | None
    ci_low: float | None
    chance: float | None
    above_chance: bool | None
    density: float


def search(
    connection: "DuckDBPyConnection", text: str, *, dictionary_id: str | None = None, limit: int = 50
) -> list[Hit]:
    """Features whose label has every word of ``text``, in any order and case.

    Raises:
        UserError: for a text without words or with too many.
    """
    words = search_words(text)
    rows = search_labels(connection, words=words, dictionary_id=dictionary_id, limit=limit).to_pylist()
    return [
        Hit(
            row["dictionary_id"],
            row["feature_index"],
            row["label"],
            highlights(row["label"], words),
            row["score"],
            row["ci_low"],
            row["chance"],
            row["above_chance"],
            row["density"],
        )
        for row in rows
    ]


def search_words(text: str) -> list[str]:
    """The different words of a search text, in lower case.

    Raises:
        UserError: for a text without words or with more than ``MAX_WORDS``.
    """
    words = list(dict.fromkeys(text.lower().split()))
    if not words or len(words) > MAX_WORDS:
        raise UserError(f"give 1 to {MAX_WORDS} words to search for, not {len(words)}")
    return words


def highlights(label: str, words: list[str]) -> tuple[tuple[int, int], ...]:
    """Characters of ``label`` where any of ``words`` occurs: disjoint (start, end), in order."""
    pattern = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    found = [match.span() for match in re.finditer(pattern, label, re.IGNORECASE)] if pattern else []
    spans: list[tuple[int, int]] = []
    for start, end in found:
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return tuple(spans)
