"""The smallest matcher: features of the same index are partners."""

from typing import Literal

import numpy as np

from tasks.common.progress import ProgressListener, silent
from tasks.matching.matcher import MATCHERS, Candidate, Matched, Matcher, MatcherConfig, Side
from tasks.matching.pairs import Evidence, best_pairs, pairs_table, summary


class ToyMatcherConfig(MatcherConfig):
    """No setting of its own."""

    matcher: Literal["toy_matcher"] = "toy_matcher"


@MATCHERS.register("toy_matcher")
class ToyMatcher(Matcher):
    """Compares dictionaries that write the same hookpoint, as decoder_cosine does."""

    config: ToyMatcherConfig
    purpose = "pairs features of the same index"

    def compares(self, a: Candidate, b: Candidate) -> bool:
        return a.writes == b.writes

    def match(self, a: Side, b: Side, listener: ProgressListener = silent) -> Matched:
        n_a, n_b = a.dictionary.d_sae, b.dictionary.d_sae
        pairs = best_pairs([(slice(0, n_a), np.eye(n_a, n_b))], n_b, 1)
        p_A = np.full(n_a, 0.5)
        evidence = Evidence(n_a, p_A, p_A, self.config.same_above, pairs)
        verdict = np.where(pairs.mutual, "same", "unmatched")
        features = (np.arange(n_a), np.arange(n_b))
        table = pairs_table(pairs, (a, b), features, "toy_matcher", evidence, verdict)
        return Matched(table, summary(pairs, evidence, verdict))
