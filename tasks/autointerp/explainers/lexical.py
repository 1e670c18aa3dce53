"""Explanations without a language model: the rule that best separates firing from silent contexts."""

from typing import Literal

from pydantic import Field

from catalog.ids import digest
from catalog.schemas import TOP_BAND
from tasks.autointerp.explainer import EXPLAINERS, Draft, Explainer, ExplainerConfig
from tasks.autointerp.lexicon.evidence import in_two, token_shares
from tasks.autointerp.lexicon.rule import GRAMMAR_VERSION
from tasks.autointerp.lexicon.search import Found, RuleSearch, SearchLimits
from tasks.autointerp.lexicon.windows import Windows
from tasks.autointerp.lexicon.wording import in_words
from tasks.autointerp.records import FeatureEvidence

SEARCH_VERSION = 4
HOLDS_ALWAYS = 0.9
"""From here on the text does not name the share: one context in ten may be an outlier."""
WEAK_LISTED = 4
"""Number of weakly firing tokens in the text; the rule has all of them."""


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
        strongest = evidence.windows.take(evidence.rows("explain", (TOP_BAND,)))
        return Draft(
            sentence(found, strongest if len(strongest) else firing),
            predicate=found.rule.to_json(),
            token_shares=tuple(share._asdict() for share in token_shares(found.rule, firing)),
        )


def sentence(found: Found, strongest: Windows) -> str:
    """The rule in words: peaks of the strongest windows, then weak firing, then the share it covers.

    The text omits the share of firing contexts for which the rule holds if that is 90 % or more.
    """
    parts = in_two(found.rule, strongest)
    phrases = [] if parts.main is None else [in_words(parts.main)]
    if parts.weak is not None:
        phrases.append(f"weakly {in_words(parts.weak, WEAK_LISTED)}")
    covered = "" if found.hit_share >= HOLDS_ALWAYS else f" ({found.hit_share:.0%} of contexts)"
    return "; ".join(phrases) + covered.replace("%", " %")
