"""Precision and recall at a prevalence near that of text: may a reader rely on the label?"""

from typing import Any, Literal

from pydantic import Field

from tasks.autointerp.chat import ChatClient
from tasks.autointerp.items import Items
from tasks.autointerp.judging import JudgeConfig, JudgeScorer, unmarked
from tasks.autointerp.measures import YES_NO
from tasks.autointerp.prevalence import AtPrevalence
from tasks.autointerp.records import FeatureEvidence
from tasks.autointerp.scorer import SCORERS


class PrecisionRecallConfig(JudgeConfig):
    """Judged as in detection, with many random contexts and no others as negatives."""

    scorer: Literal["precision_recall"] = "precision_recall"
    n_firing: int = Field(default=10, ge=1)
    """Contexts in which the feature fires, drawn evenly over all strengths."""
    n_random: int = Field(default=90, ge=1)
    """Random contexts in which it is silent; mining keeps n_random of both halves."""
    n_neighbour: int = Field(default=0, ge=0, le=0)
    """None: text has few of them."""
    items_per_call: int = Field(default=10, ge=1, le=50)
    """Contexts shown in one question; the last question may have fewer."""
    prevalence: float = Field(default=0.1, gt=0, lt=1)
    """Share of firing contexts at which precision is stated, whatever share the judged ones have."""
    confident_precision: float = Field(default=0.8, ge=0, le=1)
    """Precision from which a label may be confident."""
    confident_recall: float = Field(default=0.8, ge=0, le=1)
    """Recall from which it is."""


@SCORERS.register("precision_recall")
class PrecisionRecallScorer(JudgeScorer):
    """States how often a yes is right and how much is found, instead of their balance."""

    purpose = "asks a judge, mostly on random contexts, how often yes is right and how much is found"
    config: PrecisionRecallConfig
    prompt = "judge_detection.v1"
    reworded = "judge_detection.reworded.v1"
    mostly_no = True

    def __init__(self, config: Any, client: ChatClient | None = None) -> None:
        super().__init__(config, client)
        at = AtPrevalence(config.prevalence, config.confident_precision, config.confident_recall)
        self.measures = (YES_NO, at)

    def passages(
        self, evidence: FeatureEvidence, items: Items, chosen: slice, marks: tuple[str, str]
    ) -> list[str]:
        return unmarked(evidence, items, chosen)
