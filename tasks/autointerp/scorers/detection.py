"""Detection: given only the explanation, does the feature fire somewhere in this context?"""

from typing import Literal

from tasks.autointerp.items import Items
from tasks.autointerp.judging import JudgeConfig, JudgeScorer, unmarked
from tasks.autointerp.records import FeatureEvidence
from tasks.autointerp.scorer import SCORERS


class DetectionConfig(JudgeConfig):
    """The judge sees the contexts unmarked."""

    scorer: Literal["detection"] = "detection"


@SCORERS.register("detection")
class DetectionScorer(JudgeScorer):
    """Tests whether an explanation separates contexts; high for topics as well as for tokens."""

    purpose = "asks a judge whether the feature fires somewhere in an unmarked context"
    config: DetectionConfig
    prompt = "judge_detection.v1"
    reworded = "judge_detection.reworded.v1"

    def passages(
        self, evidence: FeatureEvidence, items: Items, chosen: slice, marks: tuple[str, str]
    ) -> list[str]:
        return unmarked(evidence, items, chosen)
