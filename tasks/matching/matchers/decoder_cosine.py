"""For one space: the cosine of decoder rows.

The p-value is that of the best of L_b random directions with the covariance of the second dictionary's rows:
if one of them exceeds the cosine with probability t, the best of L_b does with 1 - (1 - t)^L_b
(`tasks.measures.scatter`). For isotropic directions t would be I_(1-c^2)((d-1)/2, 1/2) / 2. Rows of a
dictionary share the strong directions of the activations, so unrelated dictionaries are more similar.

The floor is one dictionary of such directions in place of the second. It compares weights and samples no
texts, so there are no intervals. Mutual best partners are the same above 0.7 (Paulo and Belrose 2025, arXiv
2501.16615).

Shapes: A, B latents of the two dictionaries, D width.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch

from catalog.errors import UserError
from tasks.common.progress import Progress, ProgressListener, silent
from tasks.common.significance import benjamini_hochberg
from tasks.matching.matcher import MATCHERS, Candidate, Matched, Matcher, MatcherConfig, Side
from tasks.matching.pairs import Evidence, Floats, best_pairs, pairs_table, summary
from tasks.measures.scatter import Scatter, scatter_of

_BLOCK = 4_096


class DecoderCosineConfig(MatcherConfig):
    """Cosine of decoder rows; both dictionaries must write the same hookpoint of the same model."""

    matcher: Literal["decoder_cosine"] = "decoder_cosine"


@MATCHERS.register("decoder_cosine")
class DecoderCosine(Matcher):
    """Directions that point the same way."""

    purpose = "compares the directions of two dictionaries that write the same hookpoints"
    config: DecoderCosineConfig

    def compares(self, a: Candidate, b: Candidate) -> bool:
        """Directions are compared within one space."""
        return a.writes == b.writes

    def match(self, a: Side, b: Side, listener: ProgressListener = silent) -> Matched:
        """Both directions in one blocked pass; memory is one block of scores."""
        if a.space != b.space:
            raise UserError(
                f"decoder_cosine compares directions of one space, but {a.dictionary_id} writes "
                f"{', '.join(a.space)} and {b.dictionary_id} writes {', '.join(b.space)}: "
                "use matcher activation_correlation"
            )
        rows_AD, rows_BD = _unit_rows(a), _unit_rows(b)
        n_a, n_b = len(rows_AD), len(rows_BD)
        pairs = best_pairs(_cosines(rows_AD, rows_BD, listener), n_b, self.config.n_partners)
        scatter = scatter_of(rows_BD)
        p_A = best_cosine_p_values(rows_AD.double().cpu().numpy(), pairs.score[pairs.best], scatter, n_b)
        random_BD = scatter.draw(n_b, self.config.seed).to(rows_AD)
        floor = best_pairs(_cosines(rows_AD, random_BD, silent), n_b, 1)
        evidence = Evidence(rows_AD.shape[1], p_A, benjamini_hochberg(p_A), self.config.same_above, floor)
        significant = evidence.q_A[pairs.a] <= self.config.alpha
        same = pairs.mutual & (pairs.score > self.config.same_above) & significant
        verdict = np.where(same, "same", "unmatched")
        features = (np.arange(n_a), np.arange(n_b))
        table = pairs_table(pairs, (a, b), features, "decoder_cosine", evidence, verdict)
        return Matched(table, summary(pairs, evidence, verdict))


def best_cosine_p_values(rows_AD: Floats, cosine_A: Floats, scatter: Scatter, n_partners: int) -> Floats:
    """Probability that the best of ``n_partners`` random directions of the scatter is this close: (A,)."""
    one_A = scatter.exceeds(rows_AD, cosine_A)
    p: Floats = -np.expm1(n_partners * np.log1p(-np.minimum(one_A, 1.0 - 1e-16)))
    return np.clip(p, np.finfo(np.float64).tiny, 1.0)


def _unit_rows(side: Side) -> torch.Tensor:
    rows: torch.Tensor = side.dictionary.W_dec.detach().to(torch.float32)
    unit: torch.Tensor = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return unit


def _cosines(
    rows_AD: torch.Tensor, rows_BD: torch.Tensor, listener: ProgressListener
) -> Iterator[tuple[slice, Floats]]:
    for start in range(0, len(rows_AD), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(rows_AD)))
        yield rows, (rows_AD[rows] @ rows_BD.T).cpu().numpy().astype(np.float64)
        listener(Progress("features compared", rows.stop, len(rows_AD)))
