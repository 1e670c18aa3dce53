"""Eval tokens with their documents, and whether their norm is massive.

Legend: N tokens, W width of all hookpoints together.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.common.progress import Progress, ProgressListener, silent
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.dictionaries.stream import ActivationReader, Counts, read_valid, sample_rows

_CODES_PER_BATCH = 2**24


class EvalTokens(NamedTuple):
    """Valid, finite tokens of a few sequences."""

    values_NW: Tensor
    """float32."""
    document_N: NDArray[Any]
    massive_N: NDArray[np.bool_]


def eval_tokens(
    activations: HookpointActivations,
    n_tokens: int,
    d_sae: int,
    what: str = "",
    listener: ProgressListener = silent,
) -> Iterator[EvalTokens]:
    """Valid eval tokens from sequences spread evenly over the split.

    Args:
        activations: The data.
        n_tokens: Approximate number of tokens.
        d_sae: Width of the codes for which a batch is small enough.
        what: The unit of progress, for the listener.
        listener: Called with the number of sequences after each batch.
    """
    tokens, counts = activations.tokens, Counts()
    documents = getattr(tokens, "document_index", None)
    massive = massive_mask(activations)
    for rows, progress in _row_batches(activations, n_tokens, d_sae, what):
        valid_ST = np.asarray(tokens.valid[rows], dtype=bool)
        x_NW = torch.from_numpy(np.ascontiguousarray(activations.read(rows)))[torch.from_numpy(valid_ST)]
        finite = torch.isfinite(x_NW.sum(dim=1, dtype=torch.float32))
        counts.n_read += len(x_NW)
        counts.n_nonfinite += int((~finite).sum())
        finite_N = finite.numpy()
        n = int(finite_N.sum())
        if not n:
            listener(progress)
            continue
        document_N = np.zeros(n, np.int64) if documents is None else documents[rows][valid_ST][finite_N]
        massive_N = np.zeros(n, bool) if massive is None else massive[rows][valid_ST][finite_N]
        yield EvalTokens(x_NW[finite].float(), np.asarray(document_N), massive_N)
        listener(progress)
    counts.refuse_many()


def eval_batches(activations: ActivationReader, n_tokens: int, d_sae: int) -> Iterator[Tensor]:
    """Valid eval tokens (N, W) in float32, from sequences spread evenly over the split."""
    for rows, _ in _row_batches(activations, n_tokens, d_sae):
        values_NW = read_valid(activations, rows)
        if len(values_NW):
            yield values_NW.float()


def massive_mask(activations: HookpointActivations) -> NDArray[np.bool_] | None:
    """Tokens whose norm is massive at any of the hookpoints: (S, T); None if none is known."""
    masks = [
        reader.massive for reader in (*activations.reads, *activations.targets) if hasattr(reader, "massive")
    ]
    return np.logical_or.reduce(masks) if masks else None


def has_massive(activations: HookpointActivations) -> bool:
    """Whether any token of the set has a massive norm."""
    mask = massive_mask(activations)
    return mask is not None and bool(mask.any())


def _row_batches(
    activations: ActivationReader, n_tokens: int, d_sae: int, what: str = ""
) -> Iterator[tuple[NDArray[Any], Progress]]:
    """Sequences of each batch, and how far one is after it."""
    context = activations.context_length
    rows = sample_rows(activations.sequence_rows("eval"), max(n_tokens // context, 1))
    size = max(_CODES_PER_BATCH // (d_sae * context), 1)
    for start in range(0, len(rows), size):
        yield rows[start : start + size], Progress(what, min(start + size, len(rows)), len(rows))
