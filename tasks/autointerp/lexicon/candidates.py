"""Simple candidate rules for a feature: the tokens at, before and after the ones it fires on."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import get_args

import numpy as np

from tasks.autointerp.lexicon.joined import NO_WORD
from tasks.autointerp.lexicon.places import NEAR_TOKENS, Place
from tasks.autointerp.lexicon.rule import JoinedRule, LabelRule, PositionName, PositionRule, TokenRule
from tasks.autointerp.lexicon.vocabulary import (
    AFFIX_LENGTHS,
    SUBSTRING_LENGTH,
    TOKEN_CLASSES,
    TestKind,
    Vocabulary,
    affix,
)
from tasks.autointerp.lexicon.windows import Windows
from tasks.autointerp.lexicon.wordlists import CODE_ONLY

N_TOKENS_HERE = 48
"""Bounds the search; each further token of a list costs `VALUE_COST`."""
N_JOINED = 24
"""Bounds the search: words that several tokens make."""
N_TOKENS_NEARBY = 12
"""Bounds the search: these candidates multiply with the positions."""
N_AFFIXES = 10
"""Bounds the search: the heaviest beginnings and endings."""
MIN_SHARE = 0.1
"""A class that holds for less than a tenth of the firing mass separates nothing."""
FIRING_SHARE = 0.3
"""The feature fires on a token above this share of the window's largest activation."""
_NEARBY: dict[Place, range] = {
    "previous": range(-1, 0),
    "next": range(1, 2),
    "before": range(-NEAR_TOKENS, 0),
}
_PART_KINDS: tuple[TestKind, ...] = ("word", "starts", "ends", "contains")
MIN_LETTERS = 3
"""Shorter pieces of words are near any token."""
_EVERYWHERE = frozenset(".,:;()[]{}'\"-_`")
SURE_SHARE = 0.1
"""Keywords of code that prose does not have make up at least this part of a feature on keywords."""
SimpleRule = TokenRule | JoinedRule | PositionRule | LabelRule


def candidates(positives: Windows) -> list[SimpleRule]:
    """Simple rules about the firing tokens and the surroundings of the peaks, plainest kinds first.

    Firing tokens count by their activation mass, tokens around the peaks by the number of their windows.
    """
    here = mass_by_token(positives)
    rules: list[SimpleRule] = [PositionRule(name) for name in get_args(PositionName)]
    rules += list(_classes(positives.vocabulary, here, "here"))
    rules += list(_exact(positives.vocabulary, here, "here", N_TOKENS_HERE))
    rules += list(_joined(positives))
    rules += list(_affixes(positives.vocabulary, here))
    for place, offsets in _NEARBY.items():
        counts = _counted(positives, offsets)
        rules += list(_classes(positives.vocabulary, counts, place))
        if place == "before":
            counts = _telling(positives.vocabulary, counts)
        rules += list(_exact(positives.vocabulary, counts, place, N_TOKENS_NEARBY))
    line_counts = _telling(positives.vocabulary, _counted(positives, range(-positives.n_tokens, 0)))
    rules += list(_exact(positives.vocabulary, line_counts, "line", N_TOKENS_NEARBY))
    rules += list(_labels(positives))
    return rules


def _telling(vocabulary: Vocabulary, counts: Counter[int]) -> Counter[int]:
    """The tokens that may matter some tokens later: words and rare signs, no pieces and no punctuation."""
    kept = Counter[int]()
    for token, n in counts.items():
        core = vocabulary.texts[token].strip()
        is_sign = bool(core) and not core[0].isalnum() and not _EVERYWHERE.issuperset(core)
        if is_sign or (core.isalpha() and len(core) >= MIN_LETTERS):
            kept[token] = n
    return kept


def mass_by_token(positives: Windows) -> dict[int, float]:
    """Sum of the activations on each distinct token, by its index in the vocabulary."""
    token_WT, activation_WT = positives.token_WT, positives.activation_WT
    mass_V = np.bincount(token_WT.ravel(), activation_WT.ravel(), minlength=len(positives.vocabulary))
    return {int(token): float(mass_V[token]) for token in np.flatnonzero(mass_V)}


def _counted(windows: Windows, offsets: Iterable[int]) -> Counter[int]:
    """The number of windows in which each token is at one of the offsets from the peak."""
    offset_O = np.asarray(list(offsets))
    position_WO = windows.peak_W[:, None] + offset_O
    inside_WO = (position_WO >= 0) & (position_WO < windows.length_W[:, None])
    rows, columns = np.nonzero(inside_WO)
    tokens = windows.token_WT[rows, position_WO[rows, columns]]
    pairs = np.unique(rows.astype(np.int64) * len(windows.vocabulary) + tokens)
    values, counts = np.unique(pairs % len(windows.vocabulary), return_counts=True)
    return Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))


def _classes(vocabulary: Vocabulary, counts: Mapping[int, float], place: Place) -> Iterator[TokenRule]:
    weight: dict[str, float] = dict.fromkeys(TOKEN_CLASSES, 0.0)
    for token, n in counts.items():
        for name in vocabulary.class_names(token):
            weight[name] += n
    floor = MIN_SHARE * sum(counts.values())
    for name in TOKEN_CLASSES:
        if name == "special" and place != "here":  # that is a position
            continue
        if name == "keyword" and _mass_of(CODE_ONLY, vocabulary, counts) < SURE_SHARE * weight[name]:
            continue
        if weight[name] > 0 and weight[name] >= floor:
            yield TokenRule("class", (name,), place)


def _mass_of(words: frozenset[str], vocabulary: Vocabulary, counts: Mapping[int, float]) -> float:
    return sum(n for token, n in counts.items() if vocabulary.texts[token].strip(" ") in words)


def _joined(positives: Windows) -> Iterator[JoinedRule]:
    """Words so far of several tokens, heaviest first."""
    starts, codes_WT = positives.word_starts, positives.joined_WT
    fires_WT = (positives.activation_WT > 0) & (codes_WT != NO_WORD)
    code_J, inverse = np.unique(codes_WT[fires_WT], return_inverse=True)
    mass_J = np.bincount(inverse, positives.activation_WT[fires_WT], minlength=len(code_J))
    for place in np.argsort(-mass_J, kind="stable")[:N_JOINED].tolist():
        yield JoinedRule((starts.texts[code_J[place]],))


def _exact(
    vocabulary: Vocabulary, counts: Mapping[int, float], place: Place, limit: int
) -> Iterator[TokenRule]:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], vocabulary.texts[item[0]]))
    for token, _ in ranked[:limit]:
        text = vocabulary.texts[token]
        if text and not vocabulary.special_V[token] and not is_control(text):
            yield TokenRule("is", (text,), place)


def is_control(text: str) -> bool:
    """Whether a token's text is neither readable nor white space: control characters, parts of characters."""
    return not any(c.isprintable() or c.isspace() for c in text.replace("\ufffd", "\0"))


def _affixes(vocabulary: Vocabulary, counts: Mapping[int, float]) -> Iterator[TokenRule]:
    """Words in any case, prefixes, suffixes and substrings shared by different peak tokens."""
    weight: dict[tuple[TestKind, str], float] = {}
    sources: dict[tuple[TestKind, str], set[str]] = {}
    for token, n in counts.items():
        core = vocabulary.texts[token].strip(" ")
        if not core.strip() or vocabulary.special_V[token]:
            continue
        for key in _parts(core):
            weight[key] = weight.get(key, 0.0) + n
            sources.setdefault(key, set()).add(core)
    floor = MIN_SHARE * sum(counts.values())
    for kind in _PART_KINDS:
        shared = [
            (key, n)
            for key, n in weight.items()
            if key[0] == kind and n >= floor and (kind == "word" or len(sources[key]) > 1)
        ]
        shared.sort(key=lambda item: (-item[1], -len(item[0][1]), item[0][1]))
        for (_, value), _ in shared[:N_AFFIXES]:
            yield TokenRule(kind, (value,))


def _parts(core: str) -> set[tuple[TestKind, str]]:
    parts: set[tuple[TestKind, str]] = {("word", core.casefold())}
    for length in AFFIX_LENGTHS:
        if len(core) >= length and (length > 1 or not core.isalnum()):
            parts |= {(kind, affix(kind, core, length)) for kind in ("starts", "ends")}
    for start in range(len(core) - SUBSTRING_LENGTH + 1):
        substring = core[start : start + SUBSTRING_LENGTH]
        if " " not in substring:
            parts.add(("contains", substring))
    return parts


def _labels(positives: Windows) -> Iterator[LabelRule]:
    """Labels that several documents of the positives share."""
    documents: dict[tuple[str, str], set[str]] = {}
    weight: Counter[tuple[str, str]] = Counter()
    for window in range(len(positives)):
        for item in positives.labels_of(window).items():
            documents.setdefault(item, set()).add(positives.document_W[window])
            weight[item] += 1
    for (name, value), n in weight.most_common(N_AFFIXES):
        if len(documents[name, value]) > 1 and n >= 0.3 * len(positives):
            yield LabelRule(name, value)
