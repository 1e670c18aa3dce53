"""The closest hits for a search without results: words, tokens and full labels."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from catalog import queries
from dashboards import data
from dashboards.data import Catalogue, Row

LABELS_SHOWN = 5
_WORD = re.compile(r"\w{2,}")


def gather(catalogue: Catalogue, dictionary: str | None, words: Sequence[str]) -> tuple[list[Row], list[Row]]:
    """Words and tokens with a similar spelling, and the labels closest to them."""
    searched = tuple(words)
    near = data.rows(catalogue, queries.nearest_words(dictionary_id=dictionary, words=searched))
    spelt = tuple(row["word"] for row in near if row["kind"] == "label")
    if not spelt:
        return near, []
    found = data.rows(catalogue, queries.nearest_labels(dictionary_id=dictionary, words=spelt))
    return near, nearest_labels(found, searched)


def nearest_labels(rows: Sequence[Row], searched: Sequence[str]) -> list[Row]:
    """The few labels whose words are spelt most similarly to those searched."""
    return sorted(rows, key=lambda row: -likeness(row["label"], searched))[:LABELS_SHOWN]


def likeness(label: str, searched: Sequence[str]) -> float:
    """Mean over the searched words of the ``difflib`` ratio with the most similar word of the label."""
    words = _WORD.findall(label.lower())
    best = (
        max((SequenceMatcher(None, word, one).ratio() for one in words), default=0.0) for word in searched
    )
    return sum(best) / max(1, len(searched))
