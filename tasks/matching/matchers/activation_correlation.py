"""For any two dictionaries, of one place or of two models: the correlation of activations on shared text.

Tokens are aligned by character span, so tokenizers may differ; activations are pooled by the maximum within a
common segment; the null shifts one side within documents and takes the best partner of every shift (methods
B13.3 and B13.5).

Shapes: S segments; A, B features that fire often enough.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.sparse import csr_array

from catalog.errors import UserError
from catalog.schemas import Split
from tasks.activations.text.alignment import Ints
from tasks.common.progress import ProgressListener, doing, silent
from tasks.common.significance import benjamini_hochberg
from tasks.matching.correlation import Correlator, shift_p_values
from tasks.matching.intervals import correlation_intervals
from tasks.matching.matcher import MATCHERS, Candidate, Matched, Matcher, MatcherConfig, PairRule, Side
from tasks.matching.pairs import Evidence, Pairs, best_pairs, pairs_table, summary
from tasks.matching.segment_codes import PairedCodes, paired_codes

_COVERS = 0.8
""""Split" and "merged" ask for four fifths of the firings: a share of 1 would let one odd token decide."""


class ActivationCorrelationConfig(MatcherConfig):
    """Correlation of activations on shared text; p-values resolve 1 / (1 + n_shifts)."""

    matcher: Literal["activation_correlation"] = "activation_correlation"
    pairs: tuple[PairRule, ...] = ("models",)
    """Rules for the pairs of the pipeline's dictionaries to compare; a pair needs one of them."""
    split: Split = "eval"
    """Documents to compare on."""
    max_segments: int = Field(default=100_000, ge=100)
    """Limit on the number of text segments to compare; complete documents are taken until it is reached."""
    min_firings: int = Field(default=5, ge=2)
    """Segments on which a feature must fire to take part."""
    n_shifts: int = Field(default=200, ge=19, le=100_000)
    """Circular shifts of the null; the smallest p-value is 1 / (1 + n_shifts)."""


@MATCHERS.register("activation_correlation")
class ActivationCorrelation(Matcher):
    """Features that fire together."""

    purpose = "correlates activations on the text that both dictionaries have read"
    config: ActivationCorrelationConfig

    def compares(self, a: Candidate, b: Candidate) -> bool:
        """Behaviour is compared on one text."""
        return a.corpus_id == b.corpus_id

    def match(self, a: Side, b: Side, listener: ProgressListener = silent) -> Matched:
        """Correlate, shift, and decide which features are the same."""
        self._check_corpus(a, b)
        codes = paired_codes(
            a, b, self.config.split, self.config.max_segments, listener, seed=self.config.seed
        )
        features = self._frequent(codes.a), self._frequent(codes.b)
        n = len(codes.document)
        if not len(features[0]) or not len(features[1]):
            raise UserError(
                f"{a.dictionary_id} and {b.dictionary_id} share {n} text segments, on which "
                f"{len(features[0])} and {len(features[1])} features fire at least "
                f"{self.config.min_firings} times: cache more tokens or lower min_firings"
            )
        a_SA, b_SB = codes.a[:, features[0]], codes.b[:, features[1]]
        doing("comparing the features", listener)
        correlator = Correlator(a_SA, b_SB)
        pairs = best_pairs(correlator.blocks(), len(features[1]), self.config.n_partners)
        evidence = self._evidence(codes, correlator, pairs, self._floor(codes, features[0]), listener)
        significant = pairs.best & (evidence.q_A[pairs.a] <= self.config.alpha)
        verdict = verdicts(pairs, significant & (pairs.score > self.config.same_above), a_SA, b_SB)
        table = pairs_table(pairs, (a, b), features, "activation_correlation", evidence, verdict)
        facts = summary(pairs, evidence, verdict)
        facts["p_resolution"] = 1.0 / (1.0 + self.config.n_shifts)
        facts["n_significant"] = int((significant & (pairs.score > 0)).sum())
        return Matched(table, facts)

    def _evidence(
        self,
        codes: PairedCodes,
        correlator: Correlator,
        pairs: Pairs,
        floor: Pairs,
        listener: ProgressListener,
    ) -> Evidence:
        p_A = shift_p_values(correlator, codes.document, self.config.n_shifts, self.config.seed, listener)
        doing("resampling documents", listener)
        a_SP, b_SP = correlator.a_AS.T.tocsc(), correlator.b_SB.tocsc()
        low, high, n_documents = correlation_intervals(
            a_SP, b_SP, (pairs.a, pairs.b), codes.document, self.config.seed
        )
        return Evidence(
            len(codes.document),
            p_A,
            benjamini_hochberg(p_A),
            self.config.same_above,
            floor,
            low,
            high,
            n_documents,
        )

    def _floor(self, codes: PairedCodes, frequent_A: Ints) -> Pairs:
        """The best partner of every feature among random directions; a score of 0 if none fires."""
        frequent_R = self._frequent(codes.random)
        if not len(frequent_R):
            zeros = np.zeros(len(frequent_A))
            nobody = zeros.astype(np.int64)
            return Pairs(np.arange(len(frequent_A)), nobody, zeros, nobody, zeros, zeros > 0)
        correlator = Correlator(codes.a[:, frequent_A], codes.random[:, frequent_R])
        return best_pairs(correlator.blocks(), len(frequent_R), 1)

    def _check_corpus(self, a: Side, b: Side) -> None:
        digests = {str(side.activation_set.meta["corpus_digest"]) for side in (a, b)}
        if len(digests) > 1:
            raise UserError(
                f"activation_correlation needs one text, but {a.activation_set_id} and "
                f"{b.activation_set_id} were read from different corpora: cache both on one corpus"
            )

    def _frequent(self, codes_SL: csr_array) -> Ints:
        firings_L = np.bincount(codes_SL.indices, minlength=codes_SL.shape[1])
        return np.flatnonzero(firings_L >= self.config.min_firings)


def verdicts(
    pairs: Pairs, significant: npt.NDArray[np.bool_], a_SA: csr_array, b_SB: csr_array
) -> npt.NDArray[np.str_]:
    """The verdict of each pair, from coactivation (methods B13.5).

    *same*: mutual best with a significant correlation above the threshold. *split*: at least two listed
    partners fire only where a fires (P(a|b) > 0.8) and together cover 0.8 of its firings. *merged*: the
    inverse, seen from b. *absorbed*: a fires only where b fires (P(b|a) > 0.8). Else *unmatched*.
    """
    fires_a, fires_b = (a_SA > 0).astype(np.float64), (b_SB > 0).astype(np.float64)
    count_a, count_b = (np.asarray(f.sum(axis=0)).ravel() for f in (fires_a, fires_b))
    both = np.asarray(fires_a[:, pairs.a].multiply(fires_b[:, pairs.b]).sum(axis=0)).ravel()
    a_given_b, b_given_a = both / count_b[pairs.b], both / count_a[pairs.a]
    is_part = _covered(pairs.a, pairs.b, a_given_b > _COVERS, fires_a, fires_b)
    is_whole = _covered(pairs.b, pairs.a, b_given_a > _COVERS, fires_b, fires_a)
    conditions = [pairs.mutual & significant, is_part, is_whole, b_given_a > _COVERS]
    return np.select(conditions, ["same", "split", "merged", "absorbed"], "unmatched")


def _covered(
    whole: Ints, part: Ints, inside: npt.NDArray[np.bool_], fires_whole: csr_array, fires_part: csr_array
) -> npt.NDArray[np.bool_]:
    """Pairs whose ``whole`` is covered by at least two parts that lie inside it."""
    result = np.zeros(len(whole), dtype=bool)
    several = np.flatnonzero(np.bincount(whole[inside], minlength=fires_whole.shape[1]) >= 2)
    for feature in several:
        members = inside & (whole == feature)
        any_part = np.asarray(fires_part[:, part[members]].sum(axis=1)).ravel() > 0
        rows = fires_whole[:, [feature]].nonzero()[0]
        result[members] = any_part[rows].mean() >= _COVERS
    return result
