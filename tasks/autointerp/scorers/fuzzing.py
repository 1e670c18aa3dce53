"""Fuzzing: are the marked tokens those the feature fires on, or were they marked at random?"""

from typing import Literal

import numpy as np

from tasks.autointerp.judging import JudgeConfig, JudgeScorer
from tasks.autointerp.lexicon.vocabulary import Bools
from tasks.autointerp.prompting import MARK_SHARE, marked
from tasks.autointerp.records import FeatureEvidence
from tasks.autointerp.scorer import SCORERS, Items, seeded


class FuzzingConfig(JudgeConfig):
    """The judge sees contexts with tokens marked: rightly where the feature fires, else at random."""

    scorer: Literal["fuzzing"] = "fuzzing"


@SCORERS.register("fuzzing")
class FuzzingScorer(JudgeScorer):
    """Tests whether an explanation tells tokens apart.

    In a firing context the tokens above `MARK_SHARE` of its largest activation are marked; in a silent
    one as many random tokens as firing contexts have on average, rounded up.
    """

    Config = FuzzingConfig
    prompt = "judge_fuzzing.v1"
    purpose = "fuzzing"

    def passages(
        self, evidence: FeatureEvidence, items: Items, chosen: slice, marks: tuple[str, str]
    ) -> list[str]:
        firing_IT = evidence.windows.take(items.row_I).firing(MARK_SHARE)
        n_marked = int(np.ceil(firing_IT[items.truth_I].sum(axis=1).mean()))
        texts = []
        for item in range(chosen.start, chosen.stop):
            row = int(items.row_I[item])
            tokens = evidence.windows.tokens(row)
            if items.truth_I[item]:
                is_marked: Bools = firing_IT[item, : len(tokens)]
            else:
                is_marked = self._random_tokens(evidence, row, tokens, n_marked)
            texts.append(marked(tokens, is_marked, marks))
        return texts

    def _random_tokens(
        self, evidence: FeatureEvidence, row: int, tokens: tuple[str, ...], n_marked: int
    ) -> Bools:
        """``n_marked`` tokens with visible text, by seed."""
        visible = [i for i, token in enumerate(tokens) if token.strip()] or list(range(len(tokens)))
        generator = seeded("marks", self.config.seed, evidence.feature_index, row)
        is_marked: Bools = np.zeros(len(tokens), bool)
        is_marked[generator.choice(visible, min(n_marked, len(visible)), replace=False)] = True
        return is_marked
