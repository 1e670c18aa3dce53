"""Shared code of scorers that measure every context with a model in this process instead of asking."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from catalog.schemas import SILENT_BANDS
from tasks.autointerp.chat import ChatClient
from tasks.autointerp.items import Items, Judged
from tasks.autointerp.measures import RANKING
from tasks.autointerp.metrics import UNANSWERED, Values
from tasks.autointerp.records import FeatureEvidence
from tasks.autointerp.scorer import Explanation, Scorer, ScorerConfig, items_of, seeded

DECIMALS = 5
"""Smaller differences are those of the order of additions: they count as ties."""


class MeasuringConfig(ScorerConfig):
    """A model in this process measures a sample of held-out contexts."""

    model: str = Field(min_length=1)
    """Folder of the model in the Transformers layout, or name of one that comes with featlas."""
    n_firing: int = Field(default=20, ge=1)
    """Contexts in which the feature fires, drawn evenly over all strengths."""
    n_random: int = Field(default=10, ge=0)
    """Random contexts in which it is silent."""
    n_neighbour: int = Field(default=10, ge=0)
    """Silent contexts of its nearest features."""


class MeasuringScorer(Scorer):
    """Gives each context a number and is scored by the order of the numbers (AUROC)."""

    measures = (RANKING,)
    config: MeasuringConfig

    def __init__(self, config: Any, client: ChatClient | None = None) -> None:
        super().__init__(config, client)
        self._contexts: tuple[int, Any] | None = None

    @property
    def judge_name(self) -> str:
        """The folder's name: scores of two models are two scores."""
        return Path(self.config.model).name

    def can_judge(self, explanation: Explanation) -> bool:
        return True

    def items(self, evidence: FeatureEvidence) -> Items:
        limits: dict[str, int | None] = {
            "firing": self.config.n_firing,
            **{band: getattr(self.config, f"n_{band}") for band in SILENT_BANDS},
        }
        return items_of(evidence, limits, seeded("items", self.config.seed, evidence.feature_index))

    @abstractmethod
    def prepared(self, texts: list[str]) -> Any:
        """What is measured on the contexts alone, whatever the explanation."""

    @abstractmethod
    def margins(self, explanation: str, texts: list[str], prepared: Any) -> Values:
        """How much the explanation speaks for each context (N,)."""

    async def judge(self, explanation: Explanation, evidence: FeatureEvidence, items: Items) -> Judged:
        texts = ["".join(evidence.windows.tokens(int(row))) for row in items.row_I]
        if self._contexts is None or self._contexts[0] != evidence.feature_index:
            self._contexts = (evidence.feature_index, self.prepared(texts))
        margins = np.round(self.margins(explanation.text, texts, self._contexts[1]), DECIMALS)
        unanswered = np.full(len(items), UNANSWERED, np.int8)
        return Judged(unanswered, margin_I=np.asarray(margins, np.float64), by="measure")
