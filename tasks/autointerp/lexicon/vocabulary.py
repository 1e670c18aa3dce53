"""Distinct tokens and properties of their text: classes, prefixes, suffixes, words.

Legend: V distinct tokens. Entry 0 is padding and never satisfies a test; special tokens have their own
entries, whatever their text, and satisfy no test except the class ``special``.
"""

import unicodedata
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from tasks.autointerp.lexicon.wordlists import WORD_LISTS

Bools = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int32]
TestKind = Literal["is", "word", "starts", "ends", "contains", "class"]
TEST_KINDS: tuple[str, ...] = get_args(TestKind)
AFFIX_LENGTHS = (1, 2, 3, 4)
SUBSTRING_LENGTH = 3


def _core(text: str) -> str:
    """The text without surrounding blanks, for affixes, words and case."""
    return text.strip(" ")


def _is_punctuation(text: str) -> bool:
    core = text.strip()
    return bool(core) and not any(c.isalnum() or c.isspace() or c == "_" for c in core)


def _is_other_script(text: str) -> bool:
    return any(c.isalpha() and ord(c) > 0x24F and "LATIN" not in unicodedata.name(c, "") for c in text)


def _is_indentation(text: str) -> bool:
    if not text or text.strip():
        return False
    after_break = text.rpartition("\n")[2]
    return len(after_break) >= 2 or "\t" in text


def _is_capitalised(text: str) -> bool:
    core = _core(text)
    return len(core) > 1 and core[0].isupper() and core[1:].islower()


def _is_upper(text: str) -> bool:
    core = _core(text)
    return core.isupper() and sum(c.isalpha() for c in core) >= 2


def _in_list(members: frozenset[str]) -> Callable[[str], bool]:
    return lambda text: _core(text).casefold() in members


TOKEN_CLASSES: dict[str, tuple[str, Callable[[str], bool]]] = {
    **{name: (called, _in_list(members)) for name, (called, members) in WORD_LISTS.items()},
    "digits": ("digits", lambda t: _core(t).isdigit()),
    "has_digit": ("text with a digit", lambda t: any(c.isdigit() for c in t)),
    "lowercase": ("lower-case words", lambda t: _core(t).isalpha() and _core(t).islower()),
    "uppercase": ("text in capitals", _is_upper),
    "capitalised": ("capitalised words", _is_capitalised),
    "punctuation": ("punctuation", _is_punctuation),
    "opening_bracket": ("opening brackets", lambda t: _core(t)[-1:] in tuple("([{")),
    "closing_bracket": ("closing brackets", lambda t: _core(t)[:1] in tuple(")]}")),
    "quote": ("quotation marks", lambda t: any(c in "\"'`“”‘’«»" for c in t)),
    "newline": ("line breaks", lambda t: "\n" in t),
    "indentation": ("indentation", _is_indentation),
    "whitespace": ("white space", lambda t: bool(t) and not t.strip()),
    "word_start": ("beginnings of words", lambda t: t[:1] == " " and _core(t)[:1].isalnum()),
    "word_inside": ("continuations of words", lambda t: t[:1].isalpha()),
    "underscore": ("text with an underscore", lambda t: "_" in t),
    "non_ascii": ("characters beyond ASCII", lambda t: not t.isascii()),
    "other_script": ("letters of a non-Latin script", _is_other_script),
    "long": ("long words", lambda t: len(_core(t)) >= 8 and _core(t).isalpha()),
    "character_rest": ("further bytes of one character", lambda t: not t),
    "special": ("special tokens", lambda t: False),
}
"""Name of a class of token texts: what its members are called, and the test; narrow classes first."""


class Vocabulary:
    """The distinct tokens of a block of examples, with tables that answer tests on their texts.

    ``texts`` and then ``special_texts``, the texts of special tokens, follow entry 0.
    """

    def __init__(self, texts: Sequence[str], special_texts: Sequence[str] = ()) -> None:
        self.texts: tuple[str, ...] = ("", *texts, *special_texts)
        self.special_V: Bools = np.arange(len(self.texts)) > len(texts)
        self._position = {text: i + 1 for i, text in enumerate(texts)}
        self._tables: dict[tuple[str, tuple[str, ...]], Bools] = {}
        self._affixes: dict[tuple[str, int], tuple[Codes, dict[str, int]]] = {}

    def __len__(self) -> int:
        return len(self.texts)

    def table(self, kind: str, values: tuple[str, ...]) -> Bools:
        """Which texts (V,) satisfy a test: any of ``values`` by ``kind``; entry 0 never does."""
        key = (kind, values)
        known = self._tables.get(key)
        if known is None:
            known = np.zeros(len(self), bool)
            for value in values:
                known |= self._one(kind, value)
            known[0] = False
            if (kind, values) != ("class", ("special",)):
                known &= ~self.special_V
            known.setflags(write=False)
            self._tables[key] = known
        return known

    def tested(self, name: str, test: Callable[[str], bool]) -> Bools:
        """Which texts (V,) satisfy a test of its own name."""
        if (name, ()) not in self._tables:
            table = np.fromiter(map(test, self.texts), bool, len(self)) & ~self.special_V
            table[0] = False
            self._tables[name, ()] = table
        return self._tables[name, ()]

    def class_names(self, token: int) -> tuple[str, ...]:
        """The classes of the text at position ``token``."""
        return self._names[token]

    @cached_property
    def _names(self) -> list[tuple[str, ...]]:
        names: list[list[str]] = [[] for _ in self.texts]
        for name, table in self._classes.items():
            for token in np.flatnonzero(table).tolist():
                names[token].append(name)
        return list(map(tuple, names))

    @cached_property
    def _classes(self) -> dict[str, Bools]:
        tables = {}
        for name, (_, test) in TOKEN_CLASSES.items():
            tables[name] = np.fromiter((test(text) for text in self.texts), bool, len(self))
            tables[name] &= ~self.special_V
            tables[name][0] = False
        tables["special"] = self.special_V
        return tables

    @cached_property
    def _substrings(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for i, text in enumerate(self.texts):
            core = _core(text)
            for start in range(len(core) - SUBSTRING_LENGTH + 1):
                found.setdefault(core[start : start + SUBSTRING_LENGTH], []).append(i)
        return found

    def _one(self, kind: str, value: str) -> Bools:
        if kind == "class":
            return self._classes[value]
        if kind == "is":
            return self._at([self._position[value]] if value in self._position else [])
        if kind == "contains":
            if len(value) == SUBSTRING_LENGTH and " " not in value:
                return self._at(self._substrings.get(value, []))
            return np.fromiter((value in text for text in self.texts), bool, len(self))
        codes, position = self._affix(kind, 0 if kind == "word" else len(value))
        same: Bools = codes == position.get(value, -1)
        return same

    def _at(self, positions: list[int]) -> Bools:
        table = np.zeros(len(self), bool)
        table[positions] = True
        return table

    def _affix(self, kind: str, length: int) -> tuple[Codes, dict[str, int]]:
        """Code of the prefix, suffix or case-folded word of every text, and the code of each affix."""
        if (kind, length) not in self._affixes:
            position: dict[str, int] = {}
            codes = [position.setdefault(affix(kind, text, length), len(position)) for text in self.texts]
            self._affixes[kind, length] = (np.asarray(codes, np.int32), position)
        return self._affixes[kind, length]


def affix(kind: str, text: str, length: int) -> str:
    """The first or last ``length`` characters of the text, or for ``word`` all of it, case-folded."""
    core = _core(text)
    if kind == "starts":
        return core[:length]
    if kind == "ends":
        return core[-length:]
    return core.casefold()
