"""The text of a lexical label: the strong part of a rule, the tail as a share, pieces with their words."""

from collections.abc import Sequence
from typing import TypeGuard

import numpy as np

from tasks.autointerp.lexicon.candidates import is_control, mass_by_token
from tasks.autointerp.lexicon.evidence import Part, Word, parts_by_share, words_of
from tasks.autointerp.lexicon.rule import BLAND, Both, JoinedRule, Rule, TokenRule
from tasks.autointerp.lexicon.windows import Windows
from tasks.autointerp.lexicon.wording import circumstance, in_words, listed, named, quoted

NOTHING_FOUND = "no token rule found"
ALL_SHARE = 0.9
"""From here on the text names no share: one tenth of the activation may be noise of the dictionary."""
STRONG_RATIO = 0.4
"""A part belongs to the strong ones if its share is at least this part of the largest."""
MOST_STRONG = 3
MOST_WEAK = 3
MOST_EXAMPLES = 2
ONE_WORD_SHARE = 0.75
"""From this share on, one word stands for all in which a piece occurs."""
GOES_ON = "…"
ONLY_SHARE = 0.75
"""From this share on, a rule about the surroundings names the one token that fires there."""
NAMED_SHARE = 0.3
"""Without a rule, a token with less of the activation is only an example."""
ROLE_SHARE = 0.7
"""A piece begins or ends words if this share of its activation does."""
EXAMPLE_SHARE = 0.05
"""Rarer words are no examples."""


def sentence(rule: Rule, firing: Windows) -> str:
    """The rule in words, for example ``mostly "def" (91 % of its activation); also "class"``."""
    parts = [part for part in parts_by_share(rule, firing) if part.share > 0]
    if not parts:
        return in_words(rule)
    strong = [part for part in parts if part.share >= STRONG_RATIO * parts[0].share][:MOST_STRONG]
    weak = parts[len(strong) :]
    share, rest = (sum(part.share for part in some) for some in (strong, weak))
    text = listed([_phrase(part, firing, MOST_EXAMPLES if len(strong) == 1 else 1) for part in strong])
    if share < ALL_SHARE or (weak and rest >= 0.005):
        text += f" ({_percent(share)} of its activation)"
        text = f"mostly {text}" if share >= 0.5 else text
    if weak:
        text += f"; also {listed([_name(part.rule) for part in weak], MOST_WEAK)} ({_percent(rest)})"
    return text


def nothing_found(firing: Windows) -> tuple[str, str | None]:
    """The text where no rule separates, and the heaviest token that can be named."""
    texts, special_V = firing.vocabulary.texts, firing.vocabulary.special_V
    mass = {
        token: value
        for token, value in mass_by_token(firing).items()
        if texts[token] and not special_V[token] and not is_control(texts[token])
    }
    if not mass:
        return NOTHING_FOUND, None
    token = max(mass, key=lambda token: (mass[token], texts[token]))
    share = mass[token] / (float(firing.activation_WT.sum()) or 1.0)
    shown = f" ({_percent(share)} of its activation)" if share >= NAMED_SHARE else ""
    return f"{NOTHING_FOUND}; fires most on {named(texts[token])}{shown}", texts[token]


def _percent(share: float) -> str:
    return "under 1 %" if share < 0.01 else f"{share:.0%}".replace("%", " %")


def _name(rule: Rule) -> str:
    """A part without its words."""
    if isinstance(rule, JoinedRule) or (_is_list(rule) and rule.place == "here"):
        return named(rule.values[0])
    return in_words(rule)


def _phrase(part: Part, firing: Windows, n_examples: int) -> str:
    """A part with words that show where it occurs, if it is less than a word."""
    rule = part.rule
    if isinstance(rule, JoinedRule) or (_is_list(rule) and rule.place == "here"):
        value = rule.values[0]
        if not value.strip().isalpha():
            return named(value)
        return _piece(value, words_of(part.mass_WT, firing), n_examples, isinstance(rule, JoinedRule))
    text = in_words(rule)
    if isinstance(rule, TokenRule) and rule.place != "here":
        subject = _only_token(part, firing)
        return text if subject is None else f"{subject} {circumstance(rule)}"
    if _needs_examples(rule):
        words = [word for word in words_of(part.mass_WT, firing) if word.share >= EXAMPLE_SHARE]
        shown = _examples(words, n_examples)
        text += f" ({shown})" if shown else ""
    return text


def _only_token(part: Part, firing: Windows) -> str | None:
    """The token on which nearly all of a part's activation is, if there is one."""
    tokens = firing.token_WT[part.mass_WT > 0]
    mass_V = np.bincount(tokens, part.mass_WT[part.mass_WT > 0], minlength=1)
    heaviest = int(mass_V.argmax())
    text = firing.vocabulary.texts[heaviest]
    is_sure = mass_V[heaviest] >= ONLY_SHARE * mass_V.sum() and text and not is_control(text)
    return named(text) if is_sure else None


def _is_list(rule: Rule) -> TypeGuard[TokenRule]:
    return isinstance(rule, TokenRule) and rule.kind in ("is", "word")


def _needs_examples(rule: Rule) -> bool:
    """Whether the rule names tokens only by their letters, by a class that says little, or by others."""
    if isinstance(rule, Both):
        return any(map(_needs_examples, rule.parts))
    if not isinstance(rule, TokenRule):
        return False
    if rule.kind == "class":
        return not BLAND.isdisjoint(rule.values) and rule.place == "here"
    return rule.kind in ("starts", "ends", "contains")


def _piece(value: str, words: Sequence[Word], n_examples: int, is_joined: bool) -> str:
    """A token or beginning of a word, with the words in which it occurs unless it is a word itself.

    Dots stand where the words go on.
    """
    known = sum(word.share for word in words) or 1.0
    core = value.strip()
    longer = [word for word in words if word.text.lower() != core.lower()]
    whole = sum(word.share for word in words if word.begins and word.ends) / known
    begins = sum(word.share for word in words if word.begins) / known
    ends = sum(word.share for word in words if word.ends) / known
    if is_joined:
        whole, begins = ends, 1.0
        longer = [word._replace(begins=True) for word in longer]
    if not longer or whole >= ROLE_SHARE:
        return quoted(core)
    top = words[0]
    if top.share / known >= ONE_WORD_SHARE:
        return f"{quoted(core)} in {quoted(top.text)}"
    before, after = ("" if begins >= ROLE_SHARE else GOES_ON), ("" if ends >= ROLE_SHARE else GOES_ON)
    fitting = [w for w in longer if w.begins >= (not before) and w.ends >= (not after)]
    return f"{quoted(before + core + after)} ({_examples(fitting or longer, n_examples)})"


def _examples(words: Sequence[Word], most: int) -> str:
    distinct = list(dict.fromkeys(word.text for word in words))
    return ", ".join(quoted(text) for text in distinct[:most])
