"""Passages of real documents in which features are planted: words, marks and line breaks as tokens."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from catalog.schemas import ExampleSplit

WINDOW = 24
"""Tokens of a passage: two or three lines of text."""
MOST_WINDOWS = 4_000
_TOKEN = re.compile(r"[^\S\n]*\n|[^\S\n]*\w+|[^\S\n]*[^\w\s]|\s+")


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document: its tokens, joined they are the text, and where the part begins."""

    tokens: tuple[str, ...]
    document_id: str
    token_start: int
    char_start: int
    split: ExampleSplit


@dataclass(frozen=True)
class Passages:
    """The passages of a corpus."""

    all: tuple[Passage, ...]

    @cached_property
    def document_share(self) -> dict[str, float]:
        """Word, without the space before it → share of the passages that have it."""
        counts = Counter(word for one in self.all for word in {token.strip() for token in one.tokens})
        return {word: count / len(self.all) for word, count in counts.items()}

    def words(self, low: float, high: float) -> list[str]:
        """Words of at least three letters that this share of the passages has, in alphabetical order."""
        return sorted(
            word
            for word, share in self.document_share.items()
            if low <= share <= high and len(word) >= 3 and word.isalpha() and word.isascii()
        )


def split_text(text: str) -> list[str]:
    """Words and marks with the space before them, and line breaks; joined they are the text."""
    return _TOKEN.findall(text)


def cut(documents: Iterable[tuple[str, str]], seed: int = 0) -> Passages:
    """Cut documents, pairs of id and text, into passages of `WINDOW` tokens.

    Of more than `MOST_WINDOWS` passages a sample is drawn. Half of the documents are there to explain from,
    the other half to score on.
    """
    found: list[Passage] = []
    for number, (document_id, text) in enumerate(sorted(documents)):
        tokens = split_text(text)
        split: ExampleSplit = "score" if number % 2 else "explain"
        char_start = 0
        for start in range(0, len(tokens) - WINDOW + 1, WINDOW):
            inside = tuple(tokens[start : start + WINDOW])
            if sum(token.strip() != "" for token in inside) > WINDOW // 2:
                found.append(Passage(inside, document_id, start, char_start, split))
            char_start += sum(map(len, inside))
    if len(found) > MOST_WINDOWS:
        drawn = np.random.default_rng(seed).choice(len(found), MOST_WINDOWS, replace=False)
        found = [found[i] for i in sorted(drawn.tolist())]
    return Passages(tuple(found))


def join(tokens: Sequence[str]) -> str:
    """The text of some tokens."""
    return "".join(tokens)
