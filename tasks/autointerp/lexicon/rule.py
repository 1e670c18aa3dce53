"""The grammar of rules: predicates on tokens that can be evaluated, stored as JSON and put in words.

A rule holds or not at every token of a window; it holds for a window if it holds at any token of it.
Text outside the window is unknown, and a rule that would need it does not hold.
Legend: W windows, T tokens, V distinct token texts.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np

from catalog.ids import canonical_json
from tasks.autointerp.lexicon.places import NEAR_TOKENS, Place, at_place, attributes
from tasks.autointerp.lexicon.vocabulary import TEST_KINDS, TOKEN_CLASSES, Bools, TestKind
from tasks.autointerp.lexicon.windows import Windows
from tasks.autointerp.lexicon.wordlists import LISTED_WORDS

GRAMMAR_VERSION = 3
PositionName = Literal[
    "context_first",
    "context_start",
    "document_start",
    "line_start",
    "line_end",
    "sentence_start",
    "attribute",
    "repeat",
    "near_repeat",
]
VALUE_COST = 0.5
"""Cost of each further token of a list; a simple rule costs 1."""
PLACE_COST: dict[Place, float] = {"here": 0, "previous": 0.25, "next": 0.5, "before": 1.5, "line": 1.75}
"""The further away, the more a reader has to look for; what comes after cannot be the reason in a causal
model."""
BLAND = frozenset(("lowercase", "word_start", "word_inside", "non_ascii", "has_digit", "whitespace"))
BLAND_COST = 0.5
"""Half a rule: most tokens of a text are in these classes, so that naming them says little."""
CONTEXT_START_TOKENS = 4
"""Number of the first tokens of text that a model reads, of a document or of a chunk of one."""


def value_cost(place: Place) -> float:
    """Cost of each further token of a list; a list of what is nearby is harder to read than one of tokens."""
    return VALUE_COST if place == "here" else 2 * VALUE_COST


class Rule(ABC):
    """A predicate on tokens in their context."""

    @abstractmethod
    def holds(self, windows: Windows) -> Bools:
        """Where (W, T) the rule holds; padding never counts."""

    @abstractmethod
    def to_plain(self) -> dict[str, Any]:
        """The rule as JSON values, read back by `rule_from_plain`."""

    @property
    def complexity(self) -> float:
        """The complexity of the rule; one simple test counts 1."""
        return 1.0

    def answers(self, windows: Windows) -> Bools:
        """The windows (W,) for which the rule holds: at any of their tokens."""
        return np.asarray(self.holds(windows).any(axis=1), bool)

    def to_json(self) -> str:
        """Canonical JSON text of the rule."""
        return canonical_json(self.to_plain())


@dataclass(frozen=True, slots=True)
class TokenRule(Rule):
    """A token whose text passes a test is at a position relative to the current token.

    Words of a list count only as whole words. ``before`` means within the `NEAR_TOKENS` tokens before it,
    ``line`` earlier in its line.
    """

    kind: TestKind
    values: tuple[str, ...]
    place: Place = "here"

    @property
    def complexity(self) -> float:
        bland = BLAND_COST if self.kind == "class" and not BLAND.isdisjoint(self.values) else 0.0
        return 1.0 + bland + PLACE_COST[self.place] + value_cost(self.place) * (len(self.values) - 1)

    def holds(self, windows: Windows) -> Bools:
        here_WT: Bools = windows.vocabulary.table(self.kind, self.values)[windows.token_WT]
        if self.kind == "class" and not LISTED_WORDS.isdisjoint(self.values):
            here_WT = here_WT & windows.word_WT
        return at_place(here_WT, self.place, windows)

    def to_plain(self) -> dict[str, Any]:
        return {"op": "token", "test": self.kind, "values": list(self.values), "place": self.place}


@dataclass(frozen=True, slots=True)
class JoinedRule(Rule):
    """The pieces of the token's word, up to and with the token, make one of ``values`` (in any case)."""

    values: tuple[str, ...]

    @property
    def complexity(self) -> float:
        return 1.0 + VALUE_COST * (len(self.values) - 1)

    def holds(self, windows: Windows) -> Bools:
        holds_WT = np.zeros(windows.joined_WT.shape, bool)
        for code in windows.word_starts.codes(self.values):
            holds_WT |= windows.joined_WT == code
        return holds_WT

    def to_plain(self) -> dict[str, Any]:
        return {"op": "joined", "values": list(self.values)}


@dataclass(frozen=True, slots=True)
class PositionRule(Rule):
    """The token is at a certain position of its context, document or line, or is repeated.

    ``attribute`` is a name after ``self.``.
    """

    name: PositionName

    def holds(self, windows: Windows) -> Bools:
        if self.name == "context_first":
            return np.asarray(windows.context_position_WT == 0, bool)
        if self.name == "context_start":
            position_WT = windows.context_position_WT
            return (position_WT >= 0) & (position_WT < CONTEXT_START_TOKENS)
        if self.name == "document_start":
            return windows.document_start_WT
        if self.name == "line_start":
            return windows.line_start_WT
        if self.name == "sentence_start":
            return windows.sentence_start_WT
        if self.name == "attribute":
            return attributes(windows)
        if self.name == "line_end":
            newline_V = windows.vocabulary.table("class", ("newline",))
            return at_place(newline_V[windows.token_WT], "next", windows)
        if self.name == "repeat":
            return windows.lag_WT > 0
        return (windows.lag_WT > 0) & (windows.lag_WT <= NEAR_TOKENS)

    def to_plain(self) -> dict[str, Any]:
        return {"op": "position", "name": self.name}


@dataclass(frozen=True, slots=True)
class LabelRule(Rule):
    """The document carries a label."""

    name: str
    value: str

    def holds(self, windows: Windows) -> Bools:
        has_W = np.fromiter(
            (windows.labels_of(w).get(self.name) == self.value for w in range(len(windows))),
            bool,
            len(windows),
        )
        holds_WT: Bools = has_W[:, None] & (windows.token_WT > 0)
        return holds_WT

    def to_plain(self) -> dict[str, Any]:
        return {"op": "label", "name": self.name, "value": self.value}


@dataclass(frozen=True, slots=True)
class Both(Rule):
    """All parts hold at the same token."""

    parts: tuple[Rule, ...]

    @property
    def complexity(self) -> float:
        return sum(part.complexity for part in self.parts)

    def holds(self, windows: Windows) -> Bools:
        return cast(Bools, np.logical_and.reduce([part.holds(windows) for part in self.parts]))

    def to_plain(self) -> dict[str, Any]:
        return {"op": "and", "of": [part.to_plain() for part in self.parts]}


@dataclass(frozen=True, slots=True)
class Either(Rule):
    """At least one part holds."""

    parts: tuple[Rule, ...]

    @property
    def complexity(self) -> float:
        return sum(part.complexity for part in self.parts)

    def holds(self, windows: Windows) -> Bools:
        return cast(Bools, np.logical_or.reduce([part.holds(windows) for part in self.parts]))

    def to_plain(self) -> dict[str, Any]:
        return {"op": "or", "of": [part.to_plain() for part in self.parts]}


@dataclass(frozen=True, slots=True)
class Except(Rule):
    """A rule holds, and the token is not one of a few texts."""

    rule: Rule
    values: tuple[str, ...]

    @property
    def complexity(self) -> float:
        return self.rule.complexity + 0.5 + VALUE_COST * len(self.values)

    def holds(self, windows: Windows) -> Bools:
        excepted_WT = windows.vocabulary.table("is", self.values)[windows.token_WT]
        holds_WT: Bools = self.rule.holds(windows) & ~excepted_WT
        return holds_WT

    def to_plain(self) -> dict[str, Any]:
        return {"op": "except", "rule": self.rule.to_plain(), "values": list(self.values)}


@dataclass(frozen=True, slots=True)
class Constant(Rule):
    """Holds everywhere or nowhere: the rule of an explanation without information."""

    value: bool

    def holds(self, windows: Windows) -> Bools:
        holds_WT: Bools = (windows.token_WT > 0) & self.value
        return holds_WT

    def to_plain(self) -> dict[str, Any]:
        return {"op": "constant", "value": self.value}


def rule_from_json(text: str) -> Rule:
    """Parse the output of `Rule.to_json`.

    Raises:
        ValueError: for text that is not a rule of this grammar.
    """
    return rule_from_plain(json.loads(text))


def rule_from_plain(plain: Mapping[str, Any]) -> Rule:
    """Parse the output of `Rule.to_plain`; raise ``ValueError`` for anything else."""
    try:
        return _parse(plain)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a rule of grammar {GRAMMAR_VERSION}: {error!r}") from None


def _parse(plain: Mapping[str, Any]) -> Rule:
    op = plain["op"]
    if op == "token":
        kind, place, values = plain["test"], plain["place"], tuple(map(str, plain["values"]))
        unknown = kind == "class" and not set(values) <= set(TOKEN_CLASSES)
        if kind not in TEST_KINDS or place not in get_args(Place) or not values or unknown:
            raise ValueError(f"unknown test {kind!r} of {list(values)} at {place!r}")
        return TokenRule(kind, values, place)
    if op == "joined":
        if not plain["values"]:
            raise ValueError("a joined word of nothing is no rule")
        return JoinedRule(tuple(map(str, plain["values"])))
    if op == "position":
        if plain["name"] not in get_args(PositionName):
            raise ValueError(f"unknown position {plain['name']!r}")
        return PositionRule(plain["name"])
    if op == "label":
        return LabelRule(str(plain["name"]), str(plain["value"]))
    if op == "constant":
        return Constant(bool(plain["value"]))
    if op == "except":
        return Except(_parse(plain["rule"]), tuple(map(str, plain["values"])))
    if op in ("and", "or"):
        parts = tuple(_parse(part) for part in plain["of"])
        if not parts:
            raise ValueError(f"{op!r} of nothing")
        return Both(parts) if op == "and" else Either(parts)
    raise ValueError(f"unknown op {op!r}")
