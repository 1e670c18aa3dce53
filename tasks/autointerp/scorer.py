"""The role of a scorer: an explanation judged on held-out contexts, compared with chance.

The items are contexts of the ``score`` half: firing ones and, as negatives, silent ones of the bands
``random`` and ``neighbour``. Chance is the same score of other features' explanations on the same items.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator, Field

from catalog.schemas import SILENT_BANDS
from tasks.autointerp.chat import ChatClient
from tasks.autointerp.choice import ChoiceConfig
from tasks.autointerp.items import Items, Judged
from tasks.autointerp.lexicon.rule import Constant
from tasks.autointerp.measures import YES_NO, Measure
from tasks.autointerp.records import FeatureEvidence, Rows
from tasks.common.registry import Registry


class ScorerConfig(ChoiceConfig):
    """Settings of every scorer."""

    routing_fields: ClassVar[frozenset[str]] = ChoiceConfig.routing_fields | {"explainers"}

    scorer: str
    """Which scorer judges the explanations."""
    explainers: tuple[str, ...] = Field(default=("*",), min_length=1)
    """Names of the explainers, or patterns, whose explanations it judges."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Seed of sampling, order and shuffled explanations."""
    shuffles: int = Field(default=1, ge=0)
    """Number of explanations of other features to judge on the same items to measure chance, for each
    explanation; more if that makes fewer than 20 in a dictionary."""

    def judges(self, facts: Mapping[str, Any], explainer: str) -> bool:
        """Whether it judges the explanations of an explainer of the dictionary with these facts."""
        return self.takes(facts) and any(fnmatchcase(explainer, pattern) for pattern in self.explainers)

    def tag(self) -> str:
        """Its name and the settings that differ from the defaults; distinguishes two in one pipeline."""
        return self.told_apart("scorer")


NO_CLAIM = Constant(False).to_json()
"""The predicate of a text that says that nothing was found: no context is covered, whatever it names."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """An explanation with a text, and with its predicate if it is a rule."""

    explanation_id: str
    feature_index: int
    explainer: str
    text: str
    predicate: str | None

    @property
    def claims(self) -> bool:
        """Whether it predicts anything; a text that says that no rule was found does not."""
        return self.predicate != NO_CLAIM


class Scorer(ABC):
    """Judges explanations one at a time; a subclass registers itself in `SCORERS`."""

    Config: ClassVar[type[ScorerConfig]]
    purpose: ClassVar[str]
    """What it does, as the end of a sentence that begins with its name."""
    needs_client: ClassVar[bool] = False
    measures: tuple[Measure, ...] = (YES_NO,)
    """The kinds of scores it gives."""

    def __init__(self, config: Any, client: ChatClient | None = None) -> None:
        self.config = config
        self.client = client
        self.threshold: float | None = None
        """Probability from which a judge's answer counts as yes; without one the answer itself counts."""

    @property
    def judge_name(self) -> str:
        """The language model that judges, ``none`` without one."""
        return "none" if self.client is None else self.client.model

    @classmethod
    @abstractmethod
    def prompt_digest(cls, config: Any) -> str:
        """SHA-256 of prompt template, schema and settings."""

    @classmethod
    def check_config(cls, config: Any) -> None:
        """Check from files alone what it needs, before anything runs.

        Raises:
            UserError: one sentence for the first thing that is missing.
        """
        return

    @abstractmethod
    def can_judge(self, explanation: Explanation) -> bool:
        """Whether this scorer can judge such an explanation."""

    @abstractmethod
    async def judge(self, explanation: Explanation, evidence: FeatureEvidence, items: Items) -> Judged:
        """Decide for each item whether the explanation covers it."""

    def note(self, judged: Judged) -> None:
        """Record the answers about an explanation of the feature itself, for `check`."""
        return

    def check(self) -> None:
        """Raise `Stopped` if the answers so far show that further questions are pointless."""
        return

    def items(self, evidence: FeatureEvidence) -> Items:
        """All held-out contexts, firing ones first; a scorer that pays per item draws fewer."""
        return items_of(evidence, dict.fromkeys(("firing", *SILENT_BANDS)))


SCORERS: Registry[Scorer] = Registry("scorer", "tasks.autointerp.scorers")

AnyScorerConfig = Annotated[ScorerConfig, BeforeValidator(SCORERS.resolve_config("scorer"))]
"""In a pipeline: a mapping with the field ``scorer`` becomes that scorer's configuration."""


def items_of(
    evidence: FeatureEvidence, limits: dict[str, int | None], generator: np.random.Generator | None = None
) -> Items:
    """Held-out contexts, at most ``limits`` of each kind; with a generator, drawn and shuffled.

    Firing contexts are drawn evenly over the bands, so that weak activations count as much as strong.
    """
    rows: list[Rows] = []
    kinds: list[str] = []
    for kind, limit in limits.items():
        bands = [(band,) for band in evidence.firing_bands] if kind == "firing" else [(kind,)]
        found = [evidence.rows("score", band) for band in bands]
        chosen = np.concatenate(found) if limit is None else spread(found, limit, generator)
        rows.append(chosen)
        kinds += [kind] * len(chosen)
    row_I, kind_I = np.concatenate(rows), np.asarray(kinds, object)
    if generator is not None:
        order = generator.permutation(len(row_I))
        row_I, kind_I = row_I[order], kind_I[order]
    return Items(row_I, kind_I == "firing", kind_I)


def spread(groups: Sequence[Rows], limit: int, generator: np.random.Generator | None = None) -> Rows:
    """Up to ``limit`` rows taken from the groups in turn, each in its order or, with a generator, drawn."""
    queues = [list(rows if generator is None else generator.permutation(rows)) for rows in groups]
    chosen: list[int] = []
    while len(chosen) < limit and any(queues):
        for queue in queues:
            if queue and len(chosen) < limit:
                chosen.append(int(queue.pop(0)))
    return np.asarray(chosen, np.intp)


def seeded(*parts: object) -> np.random.Generator:
    """A generator that depends only on its arguments."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
