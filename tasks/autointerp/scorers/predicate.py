"""Score of a rule: whether it holds in the held-out contexts in which the feature fires, and only there."""

from functools import lru_cache
from typing import Literal

import numpy as np
from pydantic import Field

from catalog.ids import digest
from tasks.autointerp.items import Items, Judged
from tasks.autointerp.lexicon.rule import GRAMMAR_VERSION, Rule, rule_from_json
from tasks.autointerp.records import FeatureEvidence
from tasks.autointerp.scorer import SCORERS, Explanation, Scorer, ScorerConfig


class PredicateConfig(ScorerConfig):
    """Evaluates the rule of a lexical explanation; needs no language model."""

    scorer: Literal["predicate"] = "predicate"
    shuffles: int = Field(default=20, ge=0)


@SCORERS.register("predicate")
class PredicateScorer(Scorer):
    """Answers yes for a context if the rule holds at any of its tokens."""

    purpose = "checks whether the stored rule holds in a held-out context"
    config: PredicateConfig

    @classmethod
    def prompt_digest(cls, config: PredicateConfig) -> str:
        return digest({"grammar": GRAMMAR_VERSION})

    def can_judge(self, explanation: Explanation) -> bool:
        return explanation.predicate is not None

    async def judge(self, explanation: Explanation, evidence: FeatureEvidence, items: Items) -> Judged:
        assert explanation.predicate is not None
        answers = _rule(explanation.predicate).answers(evidence.windows.take(items.row_I))
        return Judged(answers.astype(np.int8))


@lru_cache(maxsize=100_000)
def _rule(predicate: str) -> Rule:
    return rule_from_json(predicate)
