"""Fuzzing: does the feature fire on the marked tokens, or on others?"""

from typing import Any, Literal

from tasks.autointerp.borrowed_marks import borrow
from tasks.autointerp.chat import ChatClient
from tasks.autointerp.items import Items
from tasks.autointerp.judging import JudgeConfig, JudgeScorer
from tasks.autointerp.lexicon.vocabulary import Bools
from tasks.autointerp.prompting import MARK_SHARE, marked
from tasks.autointerp.records import FeatureEvidence
from tasks.autointerp.scorer import SCORERS, seeded

N_KEPT = 256
"""Number of features whose marks are cached; more than are judged at once."""


class FuzzingConfig(JudgeConfig):
    """The judge sees contexts with marked tokens: correct marks if the feature fires, else wrong ones."""

    scorer: Literal["fuzzing"] = "fuzzing"


@SCORERS.register("fuzzing")
class FuzzingScorer(JudgeScorer):
    """Tests whether an explanation separates tokens.

    In a firing context the tokens above `MARK_SHARE` of its largest activation are marked; a silent one
    gets the marks of a firing one (`borrowed_marks`), so that the marks alone give no information.
    """

    purpose = "asks a judge whether the marked tokens are those the feature fires on"
    config: FuzzingConfig
    prompt = "judge_fuzzing.v1"
    reworded = "judge_fuzzing.reworded.v1"

    def __init__(self, config: Any, client: ChatClient | None = None) -> None:
        super().__init__(config, client)
        self._known: dict[int, Bools] = {}

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
            firing_IT = evidence.windows.take(items.row_I).firing(MARK_SHARE)
            generator = seeded("marks", self.config.seed, evidence.feature_index)
            known = borrow(tokens, firing_IT, items.truth_I, generator)
            while len(self._known) >= N_KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[evidence.feature_index] = known
        return known
