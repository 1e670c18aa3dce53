"""Explanations without a language model: the rule that best separates firing from silent contexts."""

from typing import Literal

import numpy as np
from pydantic import Field

from catalog.ids import digest
from tasks.autointerp.explainer import EXPLAINERS, Draft, Explainer, ExplainerConfig
from tasks.autointerp.lexicon.rule import GRAMMAR_VERSION
from tasks.autointerp.lexicon.search import Found, RuleSearch, SearchLimits
from tasks.autointerp.lexicon.wording import in_words
from tasks.autointerp.records import FIRING_BANDS, FeatureEvidence

SEARCH_VERSION = 2


class LexicalConfig(ExplainerConfig):
    """A search over rules on tokens: what they are, what stands around them, where they stand."""

    explainer: Literal["lexical"] = "lexical"
    penalty: float = Field(default=0.012, ge=0)
    """Balanced accuracy that each further part of a rule must gain."""
    max_values: int = Field(default=12, ge=1)
    """Longest list of tokens in a rule."""
    beam: int = Field(default=64, ge=2)
    """How many rules are combined with each other."""


@EXPLAINERS.register("lexical")
class LexicalExplainer(Explainer):
    """States in words what the contexts share and compiles it to a rule that can be scored."""

    Config = LexicalConfig
    config: LexicalConfig

    @classmethod
    def prompt_digest(cls, config: LexicalConfig) -> str:
        return digest({"grammar": GRAMMAR_VERSION, "search": SEARCH_VERSION, "config": config.canonical()})

    async def write(self, evidence: FeatureEvidence) -> Draft:
        groups = [evidence.rows("explain", bands) for bands in (FIRING_BANDS, ("random",), ("neighbour",))]
        windows = evidence.windows.take(np.concatenate(groups))
        group_W = np.repeat(np.arange(len(groups)), [len(rows) for rows in groups])
        limits = SearchLimits(self.config.penalty, self.config.beam, self.config.max_values)
        found = RuleSearch(windows, group_W, limits).run()
        return Draft(sentence(found), predicate=found.rule.to_json())


def sentence(found: Found) -> str:
    """The rule in words, hedged by the share of the firing contexts it holds for."""
    words = in_words(found.rule)
    if found.hit_share >= 0.9:
        return f"fires on {words}"
    if found.hit_share >= 0.6:
        return f"mostly fires on {words}"
    return f"sometimes fires on {words}"
