"""Nearest features: by the direction they write and by the tokens they fire on.

Shapes: L features, D ``d_in``, n nearest, N tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch

_CELLS_AT_ONCE = 16_000_000
_MOST_PADDING = 4
"""Rows of very different lengths are not padded to the longest."""
_PLACE_BITS = 6
"""Sampled tokens come in complete sequences: 64 positions at once are kept or left out."""


@dataclass(frozen=True)
class Nearest:
    """For each feature the n nearest others, strongest first; -1 if there are fewer."""

    features_Ln: np.ndarray
    scores_Ln: np.ndarray


def nearest_by_decoder(w_dec_LD: torch.Tensor, n: int) -> Nearest:
    """Cosine of decoder rows in blocks, never the whole (L, L); rows of norm 0 have no neighbours."""
    norms_L = w_dec_LD.norm(dim=1)
    unit_LD = w_dec_LD / norms_L.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
    n_features = len(unit_LD)
    n_kept = min(n, n_features - 1)
    features = np.full((n_features, n), -1, dtype=np.int32)
    scores = np.zeros((n_features, n), dtype=np.float32)
    step = max(1, _CELLS_AT_ONCE // n_features)
    for first in range(0, n_features, step):
        block = unit_LD[first : first + step]
        cosine = block @ unit_LD.T
        rows = torch.arange(len(block), device=cosine.device)
        cosine[rows, rows + first] = -torch.inf
        cosine[:, norms_L == 0] = -torch.inf
        best, index = cosine.topk(n_kept, dim=1)
        index[best.isinf()] = -1
        index[norms_L[first : first + step] == 0] = -1
        features[first : first + len(block), :n_kept] = index.cpu().numpy()
        scores[first : first + len(block), :n_kept] = best.cpu().numpy()
    scores[features < 0] = 0
    return Nearest(features, scores)


class Coactivation:
    """Counts on a sample of tokens which features fire together."""

    def __init__(self, n_features: int, n_tokens: int = 0) -> None:
        self.n_features = n_features
        self.n_tokens = n_tokens
        """Sampled tokens, also those on which no feature fires."""
        self._firings: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, features_E: np.ndarray, positions_E: np.ndarray, values_E: np.ndarray) -> None:
        """Add the firings of sampled tokens, for each feature in the order of their positions."""
        self._firings.append((features_E.astype(np.int32), positions_E, values_E.astype(np.float32)))

    def sample(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features (int32), positions (int64) and activations (float32) of the firings, as added."""
        nothing = (np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.float32))
        features, positions, values = (
            np.concatenate(part) for part in zip(nothing, *self._firings, strict=True)
        )
        return features, positions, values

    @cached_property
    def matrix(self) -> sp.csr_matrix:
        """Activations of every feature on the sampled tokens, after the last ``add``: (L, N) places."""
        features, positions, values = self.sample()
        blocks = positions >> _PLACE_BITS
        present = np.zeros(int(blocks.max(initial=-1)) + 1, dtype=bool)
        present[blocks] = True
        rank = np.cumsum(present) - 1
        places = (rank[blocks] << _PLACE_BITS) + (positions & ((1 << _PLACE_BITS) - 1))
        shape = (self.n_features, int(present.sum()) << _PLACE_BITS)
        return sp.csr_matrix((values, (features, places)), shape=shape)

    @property
    def counts(self) -> np.ndarray:
        """Sampled tokens on which each feature fires: (L,) float32."""
        counts: np.ndarray = np.diff(self.matrix.indptr).astype(np.float32)
        return counts

    def nearest(self, n: int) -> Nearest:
        """Highest Jaccard index: tokens on which both fire over tokens on which either does."""
        counts_L = self.counts
        features = np.full((self.n_features, n), -1, dtype=np.int32)
        scores = np.zeros((self.n_features, n), dtype=np.float32)
        for block, row, other, both in self._together():
            jaccard = both / (counts_L[row + block.start] + counts_L[other] - both)
            hopeful = _hopeful(row, jaccard, block.stop - block.start, n)
            _keep_best(features[block], scores[block], row[hopeful], other[hopeful], jaccard[hopeful])
        return Nearest(features, scores)

    def parents(self, groups_L: np.ndarray) -> np.ndarray:
        """The feature of an earlier group that fires on the largest share of the tokens on which each fires.

        Among equals the one that fires more rarely, because it is more specific; -1 if none fires with it.
        """
        counts_L = self.counts
        parents_L = np.full(self.n_features, -1, dtype=np.int32)
        for block, row, other, both in self._together():
            earlier = groups_L[other] < groups_L[row + block.start]
            row, other, both = row[earlier], other[earlier], both[earlier]
            order = np.lexsort((other, counts_L[other], -both, row))
            rows, best = np.unique(row[order], return_index=True)
            parents_L[rows + block.start] = other[order][best]
        return parents_L

    def _together(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
        """Blocks of features: ``(block, row in it, other feature, tokens on which both fire)``."""
        values_LN = self.matrix
        ones = np.ones(values_LN.nnz, dtype=np.float32)
        fires_LN = sp.csr_matrix((ones, values_LN.indices, values_LN.indptr), shape=values_LN.shape)
        fires_NL = fires_LN.T.tocsr()
        step = max(1, _CELLS_AT_ONCE // self.n_features)
        for first in range(0, self.n_features, step):
            together = (fires_LN[first : first + step] @ fires_NL).tocoo()
            row, other = together.row.astype(np.int64), together.col
            different = other != row + first
            block = slice(first, min(first + step, self.n_features))
            yield block, row[different], other[different], together.data[different]


def _hopeful(row: np.ndarray, score: np.ndarray, n_rows: int, n: int) -> np.ndarray:
    """Entries that reach the n-th score of their row, so that few have to be sorted; rows are ascending."""
    n_in_row = np.bincount(row, minlength=n_rows)
    longest = int(n_in_row.max(initial=0))
    if longest <= n or n_rows * longest > _MOST_PADDING * len(row):
        return np.arange(len(row))
    padded_BM = np.zeros((n_rows, longest), dtype=score.dtype)
    place = np.arange(len(row)) - np.repeat(np.cumsum(n_in_row) - n_in_row, n_in_row)
    padded_BM[row, place] = score
    limit_B = np.partition(padded_BM, longest - n, axis=1)[:, longest - n]
    hopeful: np.ndarray = np.flatnonzero(score >= limit_B[row])
    return hopeful


def _keep_best(
    features_Bn: np.ndarray, scores_Bn: np.ndarray, row: np.ndarray, other: np.ndarray, score: np.ndarray
) -> None:
    n = features_Bn.shape[1]
    order = np.lexsort((other, -score, row))
    row, other, score = row[order], other[order], score[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    kept = rank < n
    features_Bn[row[kept], rank[kept]] = other[kept]
    scores_Bn[row[kept], rank[kept]] = score[kept]


def interleave(lists: Sequence[np.ndarray]) -> np.ndarray:
    """Columns of several (L, n) lists in turn: nearest of each first."""
    return np.stack(lists, axis=2).reshape(len(lists[0]), -1)
