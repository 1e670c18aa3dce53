"""The evidence for the words of a rule: which of its parts and which tokens carry the activation.

Legend: W windows, T tokens.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from tasks.autointerp.lexicon.candidates import mass_by_token
from tasks.autointerp.lexicon.joined import continues_word, last_letters
from tasks.autointerp.lexicon.rule import Either, JoinedRule, Rule, TokenRule
from tasks.autointerp.lexicon.vocabulary import Bools
from tasks.autointerp.lexicon.windows import Floats, Windows

MIN_SHARE = 0.01
"""Tokens with less of the mass are not shown, unless the rule names them."""
MOST_SHARES = 12


class TokenShare(NamedTuple):
    """A token text and its share of the activation mass."""

    token: str
    share: float


class Part(NamedTuple):
    """One alternative of a rule: where it holds and no heavier one does, and its share of the activation."""

    rule: Rule
    share: float
    mass_WT: Floats


class Word(NamedTuple):
    """A whole word with its share of a part's activation, and whether the token begins or ends it."""

    text: str
    share: float
    begins: bool
    ends: bool


def token_shares(rule: Rule, firing: Windows) -> list[TokenShare]:
    """Tokens of firing windows at which the rule holds, with their share of all activation, largest first."""
    holds_WT = rule.holds(firing)
    texts, special_V = firing.vocabulary.texts, firing.vocabulary.special_V
    total = float(firing.activation_WT.sum()) or 1.0
    held = replace(firing, activation_WT=np.where(holds_WT, firing.activation_WT, 0))
    names = named_tokens(rule)
    shares = [
        TokenShare(texts[token], mass / total)
        for token, mass in mass_by_token(held).items()
        if texts[token] and not special_V[token] and (mass >= MIN_SHARE * total or texts[token] in names)
    ]
    return sorted(shares, key=lambda one: (-one.share, one.token))[:MOST_SHARES]


def named_tokens(rule: Rule) -> frozenset[str]:
    """The token texts that a rule lists as those it fires on."""
    if isinstance(rule, Either):
        return frozenset().union(*(named_tokens(part) for part in rule.parts))
    if isinstance(rule, TokenRule) and rule.kind == "is" and rule.place == "here":
        return frozenset(rule.values)
    return frozenset()


def alternatives(rule: Rule) -> list[Rule]:
    """The rules of which one must hold: parts of an "or", entries of a list of tokens.

    Tokens that differ only in the blank before them stay together.
    """
    if isinstance(rule, Either):
        return [one for part in rule.parts for one in alternatives(part)]
    if isinstance(rule, JoinedRule) or (
        isinstance(rule, TokenRule) and rule.kind != "class" and rule.place == "here"
    ):
        together: dict[str, list[str]] = {}
        for value in rule.values:
            together.setdefault(value.strip() or value, []).append(value)
        return [replace(rule, values=tuple(values)) for values in together.values()]
    return [rule]


def parts_by_share(rule: Rule, firing: Windows) -> list[Part]:
    """The alternatives of a rule with their shares of the activation, largest first; none counts twice."""
    mass_WT = firing.activation_WT
    total = float(mass_WT.sum()) or 1.0
    rules = alternatives(rule)
    holds = [one.holds(firing) for one in rules]
    own = [float(mass_WT[held].sum()) for held in holds]
    left_WT: Bools = np.ones(mass_WT.shape, bool)
    parts = []
    for i in sorted(range(len(rules)), key=lambda i: (-own[i], str(rules[i]))):
        part_WT = np.where(holds[i] & left_WT, mass_WT, 0)
        left_WT &= ~holds[i]
        parts.append(Part(rules[i], float(part_WT.sum()) / total, part_WT))
    return sorted(parts, key=lambda part: -part.share)


def words_of(mass_WT: Floats, windows: Windows) -> list[Word]:
    """The whole words at the tokens with mass, most mass first; words cut by the window are left out."""
    whole_V = continues_word(windows.vocabulary)
    texts, total = windows.vocabulary.texts, 0.0
    found: dict[tuple[str, bool, bool], float] = {}
    for row, t in zip(*(axis.tolist() for axis in np.nonzero(mass_WT)), strict=True):
        mass = float(mass_WT[row, t])
        total += mass
        begun = windows.word_starts.texts[windows.joined_WT[row, t]]
        length = int(windows.length_W[row])
        stop = t + 1
        while stop < length and whole_V[windows.token_WT[row, stop]]:
            stop += 1
        if not begun or stop == length:
            continue
        codes = windows.token_WT[row].tolist()
        first, word = t, texts[codes[t]]
        while first > 0 and len(last_letters(word)) < len(begun):
            first -= 1
            word = texts[codes[first]] + word
        rest = "".join(texts[code] for code in codes[t + 1 : stop])
        key = (last_letters(word) + rest, first == t, not rest)
        found[key] = found.get(key, 0.0) + mass
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return [Word(text, mass / total, begins, ends) for (text, begins, ends), mass in ranked]
