"""The smallest scorer: does the last word of the explanation occur in the context?"""

from typing import Literal

import numpy as np

from catalog.ids import digest
from tasks.autointerp.items import Items, Judged
from tasks.autointerp.records import FeatureEvidence
from tasks.autointerp.scorer import SCORERS, Explanation, Scorer, ScorerConfig


class ToyScorerConfig(ScorerConfig):
    """No setting of its own."""

    scorer: Literal["toy_scorer"] = "toy_scorer"


@SCORERS.register("toy_scorer")
class ToyScorer(Scorer):
    """Reads contexts as text."""

    config: ToyScorerConfig
    purpose = "looks for the last word of the explanation in a context"

    @classmethod
    def prompt_digest(cls, config: ToyScorerConfig) -> str:
        return digest("toy_scorer 1")

    def can_judge(self, explanation: Explanation) -> bool:
        return True

    async def judge(self, explanation: Explanation, evidence: FeatureEvidence, items: Items) -> Judged:
        word = explanation.text.split()[-1]
        found = [word in "".join(evidence.windows.tokens(int(row))) for row in items.row_I]
        return Judged(np.asarray(found, np.int8))
