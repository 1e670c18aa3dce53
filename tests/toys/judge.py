"""The smallest scorer that asks a language model, with its prompt in the file."""

from typing import Literal

from tasks.autointerp.items import Items
from tasks.autointerp.judging import JudgeConfig, JudgeScorer
from tasks.autointerp.records import FeatureEvidence
from tasks.autointerp.scorer import SCORERS

PROMPT = """Does the explanation hold somewhere in each passage?
Reply with $count numbers: {"answers": [$sample]}
---
<explanation-$nonce>
$explanation
</explanation-$nonce>

$items"""


class ToyJudgeConfig(JudgeConfig):
    """No setting of its own."""

    scorer: Literal["toy_judge"] = "toy_judge"


@SCORERS.register("toy_judge")
class ToyJudge(JudgeScorer):
    """Shows contexts as text."""

    config: ToyJudgeConfig
    purpose = "asks a judge about contexts in the plainest words"
    prompt = PROMPT

    def passages(
        self, evidence: FeatureEvidence, items: Items, chosen: slice, marks: tuple[str, str]
    ) -> list[str]:
        return ["".join(evidence.windows.tokens(int(row))) for row in items.row_I[chosen]]
