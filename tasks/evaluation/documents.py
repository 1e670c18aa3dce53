"""Activations pooled over documents: the mean over the valid tokens of each, raw and as sparse codes.

Shapes: N tokens, M documents, D d_in, L d_sae.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from catalog.schemas import Split
from tasks.common.progress import ProgressListener, silent
from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.evaluation.tokens import TokenBatch, document_of, encoded, token_batches


@dataclass(frozen=True)
class Pooled:
    """Documents of a split that occurred, ascending."""

    documents_M: NDArray[np.int64]
    raw_MD: NDArray[np.float64]
    """Mean input of each document."""
    codes: Mapping[str, Any]
    """Mean latent activations by dictionary, sparse (M, L) with fast columns."""

    def take(self, keep_M: NDArray[np.bool_]) -> "Pooled":
        """Some of the documents."""
        codes = {name: code.tocsr()[keep_M].tocsc() for name, code in self.codes.items()}
        return Pooled(self.documents_M[keep_M], self.raw_MD[keep_M], codes)


def pool_documents(
    activations: HookpointActivations,
    split: Split,
    n_tokens: int,
    dictionaries: Mapping[str, Dictionary],
    min_tokens: int = 1,
    listener: ProgressListener = silent,
) -> Pooled:
    """Read about ``n_tokens`` tokens of a split once and average them by document.

    Documents with fewer than ``min_tokens`` tokens read are left out. Memory is that of the sparse means.
    """
    width = max(dictionary.d_sae for dictionary in dictionaries.values())
    parts = [
        _part(batch, activations, dictionaries)
        for batch in token_batches(activations, split, n_tokens, width, listener)
    ]
    if not parts:
        empty = {name: sparse.csc_matrix((0, d.d_sae)) for name, d in dictionaries.items()}
        return Pooled(np.zeros(0, np.int64), np.zeros((0, activations.widths.d_in)), empty)
    documents_M, row_P = np.unique(np.concatenate([part.documents for part in parts]), return_inverse=True)
    gather_MP = sparse.csr_matrix(
        (np.ones(len(row_P)), (row_P, np.arange(len(row_P)))), shape=(len(documents_M), len(row_P))
    )
    count_M = gather_MP @ np.concatenate([part.n_tokens for part in parts])
    mean_MP = sparse.diags(1 / count_M) @ gather_MP
    raw_MD = mean_MP @ np.concatenate([part.raw for part in parts])
    codes = {
        name: (mean_MP @ sparse.vstack([part.codes[name] for part in parts])).tocsc() for name in dictionaries
    }
    return Pooled(documents_M, raw_MD, codes).take(count_M >= min_tokens)


@dataclass(frozen=True)
class _Part:
    """Sums over the tokens of each document of one batch."""

    documents: NDArray[np.int64]
    n_tokens: NDArray[np.float64]
    raw: NDArray[np.float64]
    codes: Mapping[str, Any]


def _part(
    batch: TokenBatch, activations: HookpointActivations, dictionaries: Mapping[str, Dictionary]
) -> _Part:
    documents, group_N = np.unique(document_of(activations, batch), return_inverse=True)
    group = torch.from_numpy(group_N)
    codes = {
        name: sparse.csr_matrix(_grouped(encoded(dictionary, batch.seen_NW), group, len(documents)))
        for name, dictionary in dictionaries.items()
    }
    raw = _grouped(batch.x_ND.double(), group, len(documents))
    counts = np.bincount(group_N, minlength=len(documents)).astype(np.float64)
    return _Part(documents.astype(np.int64), counts, raw, codes)


def _grouped(values_NF: torch.Tensor, group_N: torch.Tensor, n_groups: int) -> NDArray[Any]:
    sums = values_NF.new_zeros(n_groups, values_NF.shape[1])
    result: NDArray[Any] = sums.index_add_(0, group_N, values_NF).numpy()
    return result


def labels_of(
    documents_M: NDArray[np.int64], labels: Sequence[Mapping[str, str]], column: str
) -> list[str | None]:
    """The label of each document, None if it has none."""
    return [labels[document].get(column) if document < len(labels) else None for document in documents_M]
