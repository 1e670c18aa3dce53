"""Fuzzing: does the feature fire on the marked tokens, or on others?"""

from typing import Any, Literal

import numpy as np
from pydantic import Field

from tasks.autointerp.borrowed_marks import borrow
from tasks.autointerp.chat import ChatClient
from tasks.autointerp.items import WRONG_TOKENS, Items
from tasks.autointerp.judging import JudgeConfig, JudgeScorer
from tasks.autointerp.lexicon.vocabulary import Bools
from tasks.autointerp.prompting import MARK_SHARE, marked
from tasks.autointerp.records import FeatureEvidence
from tasks.autointerp.scorer import SCORERS, items_of, seeded

N_KEPT = 256
"""Number of features whose marks are cached; more than are judged at once."""


class FuzzingConfig(JudgeConfig):
    """The judge sees contexts with marked tokens: correct marks if the feature fires, else wrong ones."""

    scorer: Literal["fuzzing"] = "fuzzing"
    n_wrong: int = Field(default=5, ge=0)
    """Further contexts in which the feature fires, with marks on tokens on which it does not."""


@SCORERS.register("fuzzing")
class FuzzingScorer(JudgeScorer):
    """Tests whether an explanation separates tokens.

    In a firing context the tokens above `MARK_SHARE` of its largest activation are marked; a silent one
    gets the marks of a firing one (`borrowed_marks`), so that the marks alone give no information. Against
    the negatives ``wrong_tokens``, firing contexts that are marked elsewhere, a judge that only recognises
    the topic of a context is at a half.
    """

    purpose = "asks a judge whether the marked tokens are those the feature fires on"
    config: FuzzingConfig
    prompt = "judge_fuzzing.v1"
    reworded = "judge_fuzzing.reworded.v1"

    def __init__(self, config: Any, client: ChatClient | None = None) -> None:
        super().__init__(config, client)
        self._known: dict[int, Bools] = {}

    def items(self, evidence: FeatureEvidence) -> Items:
        """As for every judge, and `n_wrong` firing contexts that fire on less than half of their tokens."""
        config = self.config
        limits: dict[str, int | None] = {
            "firing": config.n_firing + config.n_wrong,
            "random": config.n_random,
            "neighbour": config.n_neighbour,
        }
        generator = seeded("items", config.seed, evidence.feature_index)
        items = items_of(evidence, limits, generator)
        firing = np.flatnonzero(items.truth_I)
        sparse = [i for i in firing if (evidence.windows.activations(int(items.row_I[i])) > 0).mean() < 0.5]
        n_wrong = min(config.n_wrong, max(0, len(firing) - config.n_firing), len(sparse))
        wrong = generator.permutation(np.asarray(sparse, np.intp))[:n_wrong]
        kind_I = items.kind_I.copy()
        kind_I[wrong] = WRONG_TOKENS
        kept = np.ones(len(items), bool)
        kept[np.flatnonzero(kind_I == "firing")[config.n_firing :]] = False
        return Items(items.row_I[kept], (kind_I == "firing")[kept], kind_I[kept])

    def passages(
        self, evidence: FeatureEvidence, items: Items, chosen: slice, marks: tuple[str, str]
    ) -> list[str]:
        marks_IT = self._marks(evidence, items)
        texts = []
        for item in range(chosen.start, chosen.stop):
            tokens = evidence.windows.tokens(int(items.row_I[item]))
            texts.append(marked(tokens, marks_IT[item, : len(tokens)], marks))
        return texts

    def _marks(self, evidence: FeatureEvidence, items: Items) -> Bools:
        """Marks (I, T) of all items, by seed; cached for the next questions about the feature."""
        known = self._known.get(evidence.feature_index)
        if known is None:
            tokens = [evidence.windows.tokens(int(row)) for row in items.row_I]
            windows = evidence.windows.take(items.row_I)
            firing_IT, active_IT = windows.firing(MARK_SHARE), windows.firing()
            generator = seeded("marks", self.config.seed, evidence.feature_index)
            known = borrow(tokens, firing_IT, items.truth_I, generator, active_IT)
            while len(self._known) >= N_KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[evidence.feature_index] = known
        return known
