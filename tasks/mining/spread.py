"""The spread of every feature's firings over documents, for the intervals of their densities.

Documents arrive in order and each is contiguous, so only the last one of a shard is open. Memory is 24
bytes per feature (two float64 sums over documents and the count in the open document), 24 MB for a million
features, whatever the number of tokens and documents.

Shapes: L features, E firings, N valid tokens, R runs of one feature within one document.
"""

import numpy as np

from tasks.common.bootstrap import Floats, share_intervals


class DocumentSpread:
    """Sums over documents of the firings n of each feature and the valid tokens m: n², n m and m²."""

    def __init__(self, n_features: int) -> None:
        self.n_squared_L = np.zeros(n_features, dtype=np.float64)
        self.n_times_m_L = np.zeros(n_features, dtype=np.float64)
        self.n_tokens = self.m_squared = self.n_documents = 0
        self._open: int | None = None
        self._open_n_L = np.zeros(n_features, dtype=np.int64)
        self._open_m = 0

    def add(self, features_E: np.ndarray, documents_E: np.ndarray, documents_N: np.ndarray) -> None:
        """Count a stretch of tokens that follows the one before.

        Args:
            features_E: Feature of each firing, sorted by feature and then by position.
            documents_E: Document of each firing.
            documents_N: Document of each valid token; every document is contiguous.
        """
        if len(documents_N) == 0:
            return
        documents, m = np.unique(documents_N, return_counts=True)
        first, last = documents_N[0], documents_N[-1]
        sizes = dict(zip(documents.tolist(), m.tolist(), strict=True))
        if self._open != first:
            self._close()
        self._extend(first, features_E[documents_E == first], sizes[int(first)])
        if first == last:
            return
        self._close()
        within = (documents_E != first) & (documents_E != last)
        self._add_whole(features_E[within], documents_E[within], documents, m)
        whole_m = m[(documents != first) & (documents != last)].astype(np.int64)
        self._count(int(whole_m.sum()), int((whole_m**2).sum()), len(whole_m))
        self._extend(last, features_E[documents_E == last], sizes[int(last)])

    def close(self) -> None:
        """End the open document; whatever is added next is another one."""
        self._close()

    def intervals(self, n_L: np.ndarray) -> tuple[Floats, Floats]:
        """95 % interval of ``n_L`` over all valid tokens, NaN where there is none; ends the last document."""
        self._close()
        return share_intervals(
            n_L, self.n_squared_L, self.n_times_m_L, self.n_tokens, self.m_squared, self.n_documents
        )

    def _extend(self, document: int, features_E: np.ndarray, m: int) -> None:
        self._open = int(document)
        self._open_n_L += np.bincount(features_E, minlength=len(self._open_n_L))
        self._open_m += m

    def _close(self) -> None:
        if self._open is None:
            return
        self.n_squared_L += self._open_n_L.astype(np.float64) ** 2
        self.n_times_m_L += self._open_n_L.astype(np.float64) * self._open_m
        self._count(self._open_m, self._open_m**2, 1)
        self._open, self._open_m = None, 0
        self._open_n_L[:] = 0

    def _count(self, m: int, m_squared: int, n_documents: int) -> None:
        self.n_tokens += m
        self.m_squared += m_squared
        self.n_documents += n_documents

    def _add_whole(
        self, features_E: np.ndarray, documents_E: np.ndarray, documents: np.ndarray, m: np.ndarray
    ) -> None:
        """Documents that lie completely in this stretch."""
        if len(features_E) == 0:
            return
        changes = (features_E[1:] != features_E[:-1]) | (documents_E[1:] != documents_E[:-1])
        begins = np.flatnonzero(np.concatenate([[True], changes]))
        n_R = np.diff(np.append(begins, len(features_E))).astype(np.float64)
        m_R = m[np.searchsorted(documents, documents_E[begins])]
        n_features = len(self.n_squared_L)
        self.n_squared_L += np.bincount(features_E[begins], weights=n_R**2, minlength=n_features)
        self.n_times_m_L += np.bincount(features_E[begins], weights=n_R * m_R, minlength=n_features)
