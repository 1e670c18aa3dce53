"""Sums over the tokens of each document, collected batch by batch.

Shapes: N tokens, G documents, C columns, D width.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


class DocumentTable:
    """Columns summed by document, and vectors summed by document, both float64."""

    def __init__(self) -> None:
        self._place: dict[int, int] = {}
        self._sums_GC = torch.zeros(0, 0, dtype=torch.float64)
        self._totals_GD = torch.zeros(0, 0, dtype=torch.float64)

    @property
    def n_documents(self) -> int:
        """Documents met."""
        return len(self._place)

    @property
    def sums_GC(self) -> Floats:  # noqa: N802
        """Sums of the columns: (G, C)."""
        return self._sums_GC[: self.n_documents].numpy()

    @property
    def totals_GD(self) -> Floats:  # noqa: N802
        """Sums of the vectors: (G, D)."""
        return self._totals_GD[: self.n_documents].numpy()

    def add(self, columns_NC: Tensor, vectors_ND: Tensor, document_N: NDArray[Any] | None) -> None:
        """Add tokens; without documents they all belong to one."""
        if document_N is None:
            document_N = np.zeros(len(columns_NC), dtype=np.int64)
        met, group_N = np.unique(document_N, return_inverse=True)
        for document in met.tolist():
            self._place.setdefault(document, len(self._place))
        places = torch.tensor([self._place[document] for document in met.tolist()], dtype=torch.long)
        place_N = places[torch.from_numpy(np.asarray(group_N, dtype=np.int64))]
        self._sums_GC = _grown(self._sums_GC, len(self._place), columns_NC.shape[1])
        self._totals_GD = _grown(self._totals_GD, len(self._place), vectors_ND.shape[1])
        self._sums_GC.index_add_(0, place_N, columns_NC.detach())
        self._totals_GD.index_add_(0, place_N, vectors_ND.detach())


def _grown(table: Tensor, n_rows: int, width: int) -> Tensor:
    if len(table) >= n_rows and table.shape[1] == width:
        return table
    larger = torch.zeros(max(n_rows, 2 * len(table)), width, dtype=torch.float64)
    larger[: len(table)] = table if len(table) else 0
    return larger
