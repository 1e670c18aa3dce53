"""From scores to pairs: the best partners of every feature, who is whose best, and what it means.

Shapes: A, B features of the two sides; P pairs.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.matching.alignment import Bools, Ints
from tasks.matching.matcher import Side

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of features, by feature of the first side and rank; indices count within the score matrix."""

    a: Ints
    b: Ints
    score: Floats
    rank: Ints
    margin: Floats
    """Score minus that of the next partner of the same feature; NaN where there is none."""
    mutual: Bools

    @property
    def best(self) -> Bools:
        """Which pairs are the best of their feature."""
        first: Bools = self.rank == 0
        return first


def best_pairs(blocks: Iterable[tuple[slice, Floats]], n_b: int, n_partners: int) -> Pairs:
    """The ``n_partners`` best of every row, from score blocks ``(rows, scores (rows, B))`` in order."""
    n_kept = min(n_partners + 1, n_b)
    indices, scores = [], []
    best_of_b, best_score_of_b = np.full(n_b, -1, dtype=np.int64), np.full(n_b, -np.inf)
    for rows, score_AB in blocks:
        top = np.argpartition(-score_AB, n_kept - 1, axis=1)[:, :n_kept]
        top_scores = np.take_along_axis(score_AB, top, axis=1)
        order = np.lexsort((top, -top_scores), axis=1)
        indices.append(np.take_along_axis(top, order, axis=1))
        scores.append(np.take_along_axis(top_scores, order, axis=1))
        champion = score_AB.argmax(axis=0)
        champion_score = score_AB[champion, np.arange(n_b)]
        better = champion_score > best_score_of_b
        best_of_b[better] = champion[better] + rows.start
        best_score_of_b[better] = champion_score[better]
    return _listed(np.concatenate(indices), np.concatenate(scores), best_of_b, n_partners)


def _listed(index_AK: Ints, score_AK: Floats, best_of_b: Ints, n_partners: int) -> Pairs:
    n_a, n_kept = index_AK.shape
    n_listed = min(n_partners, n_kept)
    margin_AK = np.full((n_a, n_kept), np.nan)
    margin_AK[:, :-1] = score_AK[:, :-1] - score_AK[:, 1:]
    a = np.repeat(np.arange(n_a), n_listed)
    b = index_AK[:, :n_listed].ravel()
    rank = np.tile(np.arange(n_listed), n_a)
    return Pairs(
        a=a,
        b=b,
        score=score_AK[:, :n_listed].ravel(),
        rank=rank,
        margin=margin_AK[:, :n_listed].ravel(),
        mutual=(rank == 0) & (best_of_b[b] == a),
    )


def pairs_table(
    pairs: Pairs,
    sides: tuple[Side, Side],
    features: tuple[Ints, Ints],
    method: str,
    n: int,
    p_A: Floats,
    q_A: Floats,
    verdict: npt.NDArray[np.str_],
) -> pa.Table:
    """Rows of ``matches``; p and q belong to the best partner of a feature and are null for the others.

    ``features`` translate the places of the score matrix into feature indices of each side.
    """
    a, b = sides
    nothing = np.full(len(pairs.a), np.nan)

    def number(values: Floats, mask: Bools) -> pa.Array:
        return pa.array(values, pa.float64(), mask=mask)

    return pa.table(
        {
            "dictionary_a": pa.repeat(a.dictionary_id, len(pairs.a)),
            "feature_a": pa.array(features[0][pairs.a], pa.int32()),
            "dictionary_b": pa.repeat(b.dictionary_id, len(pairs.a)),
            "feature_b": pa.array(features[1][pairs.b], pa.int32()),
            "method": pa.repeat(method, len(pairs.a)),
            "activation_sets": pa.repeat(f"{a.activation_set_id} | {b.activation_set_id}", len(pairs.a)),
            "score": pa.array(pairs.score, pa.float64()),
            "rank": pa.array(pairs.rank, pa.int32()),
            "mutual": pa.array(pairs.mutual),
            "margin": number(pairs.margin, np.isnan(pairs.margin)),
            "n": pa.repeat(pa.scalar(n, pa.int64()), len(pairs.a)),
            "p_value": number(np.where(pairs.best, p_A[pairs.a], nothing), ~pairs.best),
            "q_value": number(np.where(pairs.best, q_A[pairs.a], nothing), ~pairs.best),
            "verdict": pa.array(verdict.tolist(), pa.string()),
        }
    )


def summary(pairs: Pairs, q_A: Floats, verdict: npt.NDArray[np.str_], n: int) -> dict[str, float | int]:
    """What a run report says of a match."""
    return {
        "n_features": len(q_A),
        "n": n,
        "n_mutual": int(pairs.mutual.sum()),
        "n_same": int((verdict == "same").sum()),
        "mean_best_score": float(pairs.score[pairs.best].mean()) if len(q_A) else 0.0,
    }
