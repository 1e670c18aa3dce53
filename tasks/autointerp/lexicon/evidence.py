"""The evidence for the words of a rule: which tokens carry the activation, and where it is only weak.

Legend: W windows, T tokens.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from tasks.autointerp.lexicon.candidates import mass_by_token
from tasks.autointerp.lexicon.rule import Either, Rule, TokenRule
from tasks.autointerp.lexicon.vocabulary import Bools
from tasks.autointerp.lexicon.windows import Windows

MIN_SHARE = 0.01
"""Tokens with less of the mass are not shown, unless the rule names them."""
MOST_SHARES = 12


class TokenShare(NamedTuple):
    """A token text and its share of the activation mass."""

    token: str
    share: float


class Parts(NamedTuple):
    """A rule in two parts: what holds at some peak of the strongest windows, and what holds elsewhere."""

    main: Rule | None
    weak: Rule | None


def token_shares(rule: Rule, firing: Windows) -> list[TokenShare]:
    """Tokens of firing windows at which the rule holds, with their share of all activation, largest first."""
    holds_WT = rule.holds(firing)
    texts, special_V = firing.vocabulary.texts, firing.vocabulary.special_V
    total = float(firing.activation_WT.sum()) or 1.0
    held = replace(firing, activation_WT=np.where(holds_WT, firing.activation_WT, 0))
    named = named_tokens(rule)
    shares = [
        TokenShare(texts[token], mass / total)
        for token, mass in mass_by_token(held).items()
        if texts[token] and not special_V[token] and (mass >= MIN_SHARE * total or texts[token] in named)
    ]
    return sorted(shares, key=lambda one: (-one.share, one.token))[:MOST_SHARES]


def named_tokens(rule: Rule) -> frozenset[str]:
    """The token texts that a rule lists as those it fires on."""
    if isinstance(rule, Either):
        return frozenset().union(*(named_tokens(part) for part in rule.parts))
    if isinstance(rule, TokenRule) and rule.kind == "is" and rule.place == "here":
        return frozenset(rule.values)
    return frozenset()


def in_two(rule: Rule, strongest: Windows) -> Parts:
    """Separate what the strongest windows peak on from what the rule needs for weaker ones.

    Lists of tokens are divided token by token and ordered by activation mass, alternatives one by one.
    """
    is_peak_WT: Bools = np.zeros(strongest.token_WT.shape, bool)
    is_peak_WT[np.arange(len(strongest)), strongest.peak_W] = True
    return _in_two(rule, strongest, is_peak_WT)


def _in_two(rule: Rule, strongest: Windows, is_peak_WT: Bools) -> Parts:
    if isinstance(rule, TokenRule) and rule.kind != "class":
        singles = [replace(rule, values=(value,)) for value in rule.values]
        holds = [single.holds(strongest) for single in singles]
        mass = [float(strongest.activation_WT[held].sum()) for held in holds]
        order = sorted(range(len(singles)), key=lambda i: (-mass[i], rule.values[i]))
        main = tuple(rule.values[i] for i in order if (holds[i] & is_peak_WT).any())
        weak = tuple(rule.values[i] for i in order if rule.values[i] not in main)
        return Parts(
            replace(rule, values=main) if main else None, replace(rule, values=weak) if weak else None
        )
    if isinstance(rule, Either):
        parts = [_in_two(part, strongest, is_peak_WT) for part in rule.parts]
        return Parts(_joined([part.main for part in parts]), _joined([part.weak for part in parts]))
    return Parts(rule, None) if (rule.holds(strongest) & is_peak_WT).any() else Parts(None, rule)


def _joined(parts: list[Rule | None]) -> Rule | None:
    there = tuple(part for part in parts if part is not None)
    return Either(there) if len(there) > 1 else (there[0] if there else None)
