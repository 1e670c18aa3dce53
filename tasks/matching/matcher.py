"""The role of a matcher: input two dictionaries, output scored pairs of features with their evidence.

Shapes: A, B latents of the two dictionaries that take part.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import pyarrow as pa
from pydantic import BeforeValidator, Field, SerializeAsAny

from tasks.activations.reading.shards import ActivationSet
from tasks.common.config import StrictConfig
from tasks.common.progress import ProgressListener, silent
from tasks.common.registry import Registry
from tasks.dictionaries.base import Dictionary

DictionaryPattern = Annotated[str, Field(min_length=1, max_length=400)]
"""An alias or id of a dictionary in the catalogue, or a glob of them."""


@dataclass(frozen=True)
class Candidate:
    """One of two dictionaries as the catalogue describes it, before its weights are opened."""

    reads: tuple[str, ...]
    """Model and name of each hookpoint it reads."""
    writes: tuple[str, ...]
    """Model and name of each hookpoint it writes: the space of its directions."""
    corpus_id: str
    """The texts it was looked at on."""


@dataclass(frozen=True)
class Side:
    """One of the two dictionaries, with the activations on which it is compared."""

    dictionary_id: str
    activation_set_id: str
    dictionary: Dictionary
    activation_set: ActivationSet
    """Its input; the activations of several hookpoints, or in context, behave like one set."""
    writes: tuple[str, ...] = ()
    """Model and hookpoint of each output; empty if it writes what it reads."""

    @property
    def space(self) -> tuple[str, ...]:
        """The vector space of its directions: the models and hookpoints that it writes."""
        return self.writes or (f"{self.activation_set.meta['model_id']} {self.activation_set.hookpoint}",)


@dataclass(frozen=True)
class Matched:
    """Rows of the ``matches`` table (without the columns the store adds) and a summary."""

    table: pa.Table
    facts: Mapping[str, Any]


PairRule = Literal["same_place", "seeds", "layers", "adjacent_layers", "models"]
"""Names of the rules in `flows.pairs`: which pairs of a pipeline's dictionaries are compared."""
NOT_MATCHING = frozenset({"pairs", "with"})
"""Settings that choose pairs; they do not affect the match of a pair."""


class MatcherConfig(StrictConfig):
    """Settings of every matcher."""

    matcher: str
    """Name of the matcher."""
    pairs: tuple[PairRule, ...] = ("same_place", "models")
    """Rules for the pairs of the pipeline's dictionaries to compare; a pair needs one of them."""
    with_: tuple[DictionaryPattern, ...] = Field(default=(), alias="with")
    """Dictionaries of the catalogue to compare each one of the pipeline with: aliases, ids or globs."""
    n_partners: int = Field(default=3, ge=1, le=100)
    """Partners to keep for each feature of the first dictionary, best first."""
    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Largest q-value at which two features may be called the same."""
    same_above: float = Field(default=0.7, gt=0, lt=1)
    """Score that mutual best partners must exceed to be called the same: about half the variance shared."""
    seed: int = Field(default=0, ge=0)
    """Seed of the null, of the random directions of the floor and of the intervals."""

    def matching(self) -> dict[str, Any]:
        """The settings that determine the match of a pair: all but those that choose pairs."""
        return {name: value for name, value in self.canonical().items() if name not in NOT_MATCHING}


class Matcher(ABC):
    """Base of all matchers; a subclass says what it compares and scores the pairs."""

    Config: ClassVar[type[MatcherConfig]]
    purpose: ClassVar[str]
    """What it does, as the end of a sentence that begins with its name."""

    def __init__(self, config: MatcherConfig) -> None:
        self.config = config

    @abstractmethod
    def compares(self, a: Candidate, b: Candidate) -> bool:
        """Whether a pipeline runs this matcher on the two; pairs it does not compare are left out."""

    @abstractmethod
    def match(self, a: Side, b: Side, listener: ProgressListener = silent) -> Matched:
        """Score the features of ``a`` against those of ``b``.

        Raises:
            UserError: when this matcher cannot compare the two.
        """


MATCHERS: Registry[Matcher] = Registry("matcher", "tasks.matching.matchers")
MatchConfig = Annotated[SerializeAsAny[MatcherConfig], BeforeValidator(MATCHERS.resolve_config("matcher"))]


def matcher_of(config: MatcherConfig) -> Matcher:
    """The matcher that a configuration names."""
    return MATCHERS[config.matcher](config)


def match_dictionaries(
    a: Side, b: Side, config: MatcherConfig, listener: ProgressListener = silent
) -> Matched:
    """Match ``a`` against ``b`` with the matcher that ``config`` names.

    Raises:
        UserError: when this matcher cannot compare the two.
    """
    return matcher_of(config).match(a, b, listener)
