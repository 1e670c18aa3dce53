"""From scores to pairs: the best partners of every feature, mutual best partners, and verdicts.

Shapes: A, B features of the two sides; P pairs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.activations.text.alignment import Bools, Ints
from tasks.matching.matcher import Side

Floats = npt.NDArray[np.float64]
METRIC_VERSION = 2
"""Version of what score, floor and verdict mean."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of features, by feature of the first side and rank; indices count within the score matrix."""

    a: Ints
    b: Ints
    score: Floats
    rank: Ints
    margin: Floats
    """Score minus that of the next partner of the same feature; NaN if there is none."""
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


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence for pairs besides their score; arrays (A,) belong to the best partner of a feature."""

    n: int
    """Segments or dimensions compared."""
    p_A: Floats
    q_A: Floats
    same_above: float
    floor: Pairs
    """The best partner of every feature among random directions in place of the second side."""
    ci_low: Floats | None = None
    """Interval of the score of every pair, (P,); None if nothing was sampled."""
    ci_high: Floats | None = None
    n_documents: int | None = None

    @property
    def floor_same(self) -> Bools:
        """Which features would be called the same as a random direction, regardless of significance."""
        passed: Bools = self.floor.mutual & (self.floor.score > self.same_above)
        return passed


def pairs_table(
    pairs: Pairs,
    sides: tuple[Side, Side],
    features: tuple[Ints, Ints],
    method: str,
    evidence: Evidence,
    verdict: npt.NDArray[np.str_],
) -> pa.Table:
    """Rows of ``matches``; p, q and floor belong to the best partner of a feature, null for the others.

    ``features`` translates the positions of the score matrix into feature indices of each side.
    """
    a, b = sides
    n_pairs = len(pairs.a)

    def of_best(values_A: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
        return pa.array(values_A[pairs.a], kind, mask=~pairs.best)

    def number(values: Floats | None) -> pa.Array:
        known = np.full(n_pairs, np.nan) if values is None else values
        return pa.array(known, pa.float64(), mask=np.isnan(known))

    return pa.table(
        {
            "dictionary_a": pa.repeat(a.dictionary_id, n_pairs),
            "feature_a": pa.array(features[0][pairs.a], pa.int32()),
            "dictionary_b": pa.repeat(b.dictionary_id, n_pairs),
            "feature_b": pa.array(features[1][pairs.b], pa.int32()),
            "method": pa.repeat(method, n_pairs),
            "activation_sets": pa.repeat(f"{a.activation_set_id} | {b.activation_set_id}", n_pairs),
            "score": pa.array(pairs.score, pa.float64()),
            "rank": pa.array(pairs.rank, pa.int32()),
            "mutual": pa.array(pairs.mutual),
            "margin": number(pairs.margin),
            "n": pa.repeat(pa.scalar(evidence.n, pa.int64()), n_pairs),
            "p_value": of_best(evidence.p_A, pa.float64()),
            "q_value": of_best(evidence.q_A, pa.float64()),
            "verdict": pa.array(verdict.tolist(), pa.string()),
            "ci_low": number(evidence.ci_low),
            "ci_high": number(evidence.ci_high),
            "n_documents": pa.repeat(pa.scalar(evidence.n_documents, pa.int64()), n_pairs),
            "same_above": pa.repeat(pa.scalar(evidence.same_above, pa.float64()), n_pairs),
            "floor_score": of_best(evidence.floor.score, pa.float64()),
            "floor_same": of_best(evidence.floor_same, pa.bool_()),
            "metric_version": pa.repeat(pa.scalar(METRIC_VERSION, pa.int32()), n_pairs),
        }
    )


def summary(pairs: Pairs, evidence: Evidence, verdict: npt.NDArray[np.str_]) -> dict[str, float | int | None]:
    """The summary of a match for a run report; shares and means are None if no feature took part."""
    n_features = len(evidence.p_A)
    n_same = int((verdict == "same").sum())
    return {
        "n_features": n_features,
        "n": evidence.n,
        "n_mutual": int(pairs.mutual.sum()),
        "n_same": n_same,
        "share_same": n_same / n_features if n_features else None,
        "floor_share_same": float(evidence.floor_same.mean()) if n_features else None,
        "same_above": evidence.same_above,
        "mean_best_score": float(pairs.score[pairs.best].mean()) if n_features else None,
        "floor_mean_best_score": float(evidence.floor.score.mean()) if n_features else None,
    }
