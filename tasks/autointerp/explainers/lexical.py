"""Explanations without a language model: the rule that best separates firing from silent contexts."""

from typing import Literal

from pydantic import Field

from catalog.ids import digest
from tasks.autointerp.explainer import EXPLAINERS, Draft, Explainer, ExplainerConfig
from tasks.autointerp.lexicon.evidence import token_shares
from tasks.autointerp.lexicon.rule import GRAMMAR_VERSION, Constant, Rule, TokenRule
from tasks.autointerp.lexicon.search import RuleSearch, SearchLimits
from tasks.autointerp.lexicon.sentence import nothing_found, sentence
from tasks.autointerp.lexicon.windows import Windows
from tasks.autointerp.records import FeatureEvidence

SEARCH_VERSION = 7
MIN_COVERED = 0.2
"""A rule that covers less of the activation is about something else than the feature."""


class LexicalConfig(ExplainerConfig):
    """A search over rules on tokens: their text, their surroundings, their position."""

    explainer: Literal["lexical"] = "lexical"
    penalty: float = Field(default=0.012, ge=0)
    """Balanced accuracy that each further part of a rule must gain; half of it for a further list token."""
    max_values: int = Field(default=12, ge=1)
    """Longest list of tokens in a rule."""
    beam: int = Field(default=64, ge=2)
    """Number of rules to combine with each other."""


@EXPLAINERS.register("lexical")
class LexicalExplainer(Explainer):
    """Expresses in words what the contexts share, and compiles it to a rule that can be scored."""

    purpose = "searches for the rule on tokens that best separates firing from silent contexts"
    config: LexicalConfig

    @classmethod
    def prompt_digest(cls, config: LexicalConfig) -> str:
        return digest({"grammar": GRAMMAR_VERSION, "search": SEARCH_VERSION, "config": config.canonical()})

    async def write(self, evidence: FeatureEvidence) -> Draft:
        windows, group_W = evidence.contrasted()
        limits = SearchLimits(self.config.penalty, self.config.beam, self.config.max_values)
        found = RuleSearch(windows, group_W, limits).run()
        firing = windows.take(group_W == 0)
        if not found.holds_up or found.mass_share < MIN_COVERED:
            text, heaviest = nothing_found(firing)
            named = Constant(False) if heaviest is None else TokenRule("is", (heaviest,))
            return _draft(text, Constant(False), named, firing)
        return _draft(sentence(found.rule, firing), found.rule, found.rule, firing)


def _draft(text: str, rule: Rule, named: Rule, firing: Windows) -> Draft:
    """The text, the rule to score, and the shares of the tokens that the text names."""
    shares = tuple(share._asdict() for share in token_shares(named, firing))
    return Draft(text, predicate=rule.to_json(), token_shares=shares)
