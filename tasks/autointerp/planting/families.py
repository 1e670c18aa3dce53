"""Families of planted features: rules on tokens with values taken from the text, and the label of each.

A rule says on which tokens of a passage the feature fires. It needs nothing outside the passage, so that a
judge who sees the passage can know the answer. ``nearly`` says where it looks as if it might fire.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.autointerp.planting.passages import Passages

Tokens = Sequence[str]
Test = Callable[[Tokens, int], bool]
COMMON, RARE = (0.02, 0.25), (0.004, 0.05)
"""Shares of passages with a word: common enough to be shown, rare enough to be silent in most."""
SUFFIXES = ("ing", "ed", "tion", "ly", "er", "ment", "able", "ness", "ous", "al")
PREFIXES = ("re", "un", "in", "de", "con", "pre", "dis", "ex", "pro", "sub")
REPEAT_WITHIN = 8


@dataclass(frozen=True, slots=True)
class Planted:
    """A feature with a known rule."""

    family: str
    label: str
    """What a perfect explanation says."""
    fires: Test
    nearly: Test

    def mask(self, tokens: Tokens) -> list[bool]:
        """On which tokens it fires."""
        return [self.fires(tokens, i) for i in range(len(tokens))]

    def is_near(self, tokens: Tokens) -> bool:
        """Whether the passage looks as if it might fire."""
        return any(self.nearly(tokens, i) for i in range(len(tokens)))


Maker = Callable[[Passages, np.random.Generator], Planted | None]


def core(tokens: Tokens, i: int) -> str:
    """A token without the space before it; empty outside the passage."""
    return tokens[i].strip() if 0 <= i < len(tokens) else ""


def _is_word(text: str) -> bool:
    return text.isalpha()


def _one(values: Sequence[str], generator: np.random.Generator) -> str | None:
    return values[int(generator.integers(len(values)))] if values else None


def word(passages: Passages, generator: np.random.Generator) -> Planted | None:
    """A word, whatever its case; near: words that begin with the same two letters."""
    value = _one(passages.words(*COMMON), generator)
    if value is None:
        return None
    small = value.lower()
    return Planted(
        "word",
        f'the word "{value}"',
        lambda t, i: core(t, i).lower() == small,
        lambda t, i: core(t, i).lower().startswith(small[:2]),
    )


def suffix(passages: Passages, generator: np.random.Generator) -> Planted | None:
    """Words with an ending; near: words with the last letter of it."""
    value = _one(_with_share(passages, SUFFIXES, str.endswith), generator)
    label = f'words that end in "{value}"'
    return None if value is None else _part("suffix", label, value, value[-1], str.endswith)


def prefix(passages: Passages, generator: np.random.Generator) -> Planted | None:
    """Words with a beginning; near: words with the first letter of it."""
    value = _one(_with_share(passages, PREFIXES, str.startswith), generator)
    label = f'words that begin with "{value}"'
    return None if value is None else _part("prefix", label, value, value[0], str.startswith)


def _part(family: str, label: str, value: str, near: str, has: Callable[[str, str], bool]) -> Planted:
    """Words that have a part, in small letters, and more; near: words with a piece of the part."""
    return Planted(
        family,
        label,
        lambda t, i: len(core(t, i)) > len(value) and has(core(t, i).lower(), value),
        lambda t, i: has(core(t, i).lower(), near),
    )


def _with_share(passages: Passages, parts: Sequence[str], has: Callable[[str, str], bool]) -> list[str]:
    """Beginnings or endings that enough, and not too many, passages have."""
    shares = passages.document_share
    found = []
    for part in parts:
        share = sum(
            s for w, s in shares.items() if w.isalpha() and len(w) > len(part) and has(w.lower(), part)
        )
        if COMMON[0] <= share <= 2 * COMMON[1]:
            found.append(part)
    return found


def casing(passages: Passages, generator: np.random.Generator) -> Planted | None:
    """Words in capitals; near: words with one capital."""
    return Planted(
        "casing",
        "words written in capital letters only",
        lambda t, i: len(core(t, i)) > 1 and core(t, i).isalpha() and core(t, i).isupper(),
        lambda t, i: core(t, i)[:1].isupper(),
    )


def capitalised(passages: Passages, generator: np.random.Generator) -> Planted | None:
    """Words with a capital first letter; near: words in capitals."""
    return Planted(
        "capitalised",
        "words whose first letter is a capital and whose other letters are small",
        lambda t, i: core(t, i)[:1].isupper() and core(t, i)[1:].islower(),
        lambda t, i: len(core(t, i)) > 1 and core(t, i).isupper(),
    )


def after(passages: Passages, generator: np.random.Generator) -> Planted | None:
    """The word after a word; near: words after another word."""
    value = _one(passages.words(*COMMON), generator)
    if value is None:
        return None
    small = value.lower()
    return Planted(
        "after",
        f'the word that comes right after the word "{value}"',
        lambda t, i: _is_word(core(t, i)) and core(t, i - 1).lower() == small,
        lambda t, i: core(t, i).lower() == small,
    )


def repeat(passages: Passages, generator: np.random.Generator) -> Planted | None:
    """The second copy of a word of four letters or more; near: any such word."""
    return Planted(
        "repeat",
        f"a word of four or more letters that also stands among the {REPEAT_WITHIN} words and marks before",
        lambda t, i: (
            len(core(t, i)) >= 4
            and _is_word(core(t, i))
            and core(t, i) in {core(t, j) for j in range(max(0, i - REPEAT_WITHIN), i)}
        ),
        lambda t, i: len(core(t, i)) >= 4 and _is_word(core(t, i)),
    )


def number(passages: Passages, generator: np.random.Generator) -> Planted | None:
    """Numbers in a range; near: numbers outside it."""
    low, high = ((0, 9), (10, 99), (100, 9_999))[int(generator.integers(3))]
    return Planted(
        "number",
        f"whole numbers from {low} to {high}",
        lambda t, i: core(t, i).isdecimal() and low <= int(core(t, i)) <= high,
        lambda t, i: core(t, i).isdecimal(),
    )


def brackets(passages: Passages, generator: np.random.Generator) -> Planted | None:
    """Words inside round brackets; near: words in passages with a mark of punctuation."""
    return Planted(
        "brackets",
        "words inside round brackets",
        lambda t, i: _is_word(core(t, i)) and _depth(t, i) >= 1 and ")" in map(str.strip, t[i + 1 :]),
        lambda t, i: core(t, i) in {"[", "{", "=", ","},
    )


def _depth(tokens: Tokens, i: int) -> int:
    depth = 0
    for j in range(i):
        if core(tokens, j) == "(":
            depth += 1
        elif core(tokens, j) == ")":
            depth = max(0, depth - 1)
    return depth


def line_start(passages: Passages, generator: np.random.Generator) -> Planted | None:
    """The first word of a line; near: the word after it."""
    return Planted(
        "line_start",
        "the first word of a line",
        lambda t, i: _is_word(core(t, i)) and i > 0 and t[i - 1].endswith("\n"),
        lambda t, i: core(t, i) in {".", ",", ":"},
    )


def mixture(n: int) -> Maker:
    """Any of ``n`` unlike words; near: words that begin like one of them."""

    def make(passages: Passages, generator: np.random.Generator) -> Planted | None:
        known = passages.words(*RARE)
        if len(known) < n:
            return None
        values = [known[i] for i in sorted(generator.choice(len(known), n, replace=False).tolist())]
        small, begins = {value.lower() for value in values}, {value.lower()[:2] for value in values}
        quoted = [f'"{value}"' for value in values]
        return Planted(
            f"mixture_of_{n}",
            f"the words {', '.join(quoted[:-1])} and {quoted[-1]}",
            lambda t, i: core(t, i).lower() in small,
            lambda t, i: core(t, i).lower()[:2] in begins,
        )

    return make


FAMILIES: dict[str, Maker] = {
    "word": word,
    "suffix": suffix,
    "prefix": prefix,
    "casing": casing,
    "capitalised": capitalised,
    "after": after,
    "repeat": repeat,
    "number": number,
    "brackets": brackets,
    "line_start": line_start,
    "mixture_of_2": mixture(2),
    "mixture_of_3": mixture(3),
}
