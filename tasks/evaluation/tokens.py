"""Reads activations with the position of every token, and the controls of every suite.

Legend: N tokens, T context, D d_in, E d_out, L d_sae.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from catalog.schemas import Split
from tasks.common.progress import Progress, ProgressListener, silent
from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.dictionaries.stream import sample_rows
from tasks.evaluation.suite import Unmeasurable
from tasks.measures.controls import Pca, fit_pca, fit_random

_CODES_PER_BATCH = 2**24
_CONTROL_TOKENS, _CONTROL_VALUES = 50_000, 2**25


class TokenBatch(NamedTuple):
    """Valid tokens in order, with their positions."""

    rows_N: NDArray[np.int64]
    """Sequence of each token."""
    positions_N: NDArray[np.int64]
    """Position of each token in its sequence."""
    x_ND: Tensor
    y_NE: Tensor
    """The target; ``x_ND`` itself if that is the input."""
    seen_NW: Tensor
    """The input of the encoder: ``x_ND`` itself, unless it reads context."""


def token_batches(
    activations: HookpointActivations,
    split: Split,
    n_tokens: int,
    d_sae: int,
    listener: ProgressListener = silent,
) -> Iterator[TokenBatch]:
    """Valid, finite tokens of sequences spread evenly over a split, about ``n_tokens`` in all, float32.

    A batch is small enough for dense codes of width ``d_sae``. The listener is told after each.
    """
    context = activations.context_length
    rows = sample_rows(activations.sequence_rows(split), max(n_tokens // context, 1))
    size = max(_CODES_PER_BATCH // (d_sae * context), 1)
    for start in range(0, len(rows), size):
        chosen = np.asarray(rows[start : start + size])
        values_STW = torch.from_numpy(np.ascontiguousarray(activations.read(chosen)))
        valid_ST = torch.from_numpy(np.array(activations.tokens.valid[chosen], dtype=bool))
        valid_ST &= torch.isfinite(values_STW.sum(dim=2, dtype=torch.float32))
        if valid_ST.any():
            sequence_N, position_N = torch.nonzero(valid_ST, as_tuple=True)
            seen_NW, y_NE = activations.split(values_STW[valid_ST].float())
            x_ND = seen_NW[:, : activations.widths.d_in]
            yield TokenBatch(chosen[sequence_N.numpy()], position_N.numpy(), x_ND, y_NE, seen_NW)
        listener(Progress(f"{split} sequences read", min(start + size, len(rows)), len(rows)))


class Controls(NamedTuple):
    """The controls that the dictionary must beat at equal sparsity."""

    k: int
    """Realised mean number of active latents, rounded."""
    random: Dictionary
    """Random directions of the same width, keeping the k largest products."""
    pca: Pca


@torch.no_grad()
def fit_controls(
    dictionary: Dictionary, activations: HookpointActivations, seed: int, listener: ProgressListener = silent
) -> Controls:
    """A random dictionary of the same width and realised k, and PCA with k components, on the inputs.

    Raises:
        Unmeasurable: when there are no train tokens.
    """
    n_tokens = min(_CONTROL_TOKENS, _CONTROL_VALUES // activations.d_in)
    parts, active = [], 0.0
    for part in token_batches(activations, "train", n_tokens, dictionary.d_sae, listener):
        active += float((encoded(dictionary, part.seen_NW) > 0).sum())
        parts.append(part)
    if not parts:
        raise Unmeasurable("the activation set has no valid train tokens")
    x_ND = torch.cat([part.x_ND for part in parts])
    k = max(round(active / len(x_ND)), 1)
    random = fit_random(x_ND, k, dictionary.d_sae, seed).to(dictionary.W_dec.device)
    return Controls(k, random, fit_pca(x_ND, k))


@torch.no_grad()
def encoded(dictionary: Dictionary, seen_NW: Tensor) -> Tensor:
    """Dense latent activations on the CPU: (N, L) float32."""
    return dictionary.encode(_own(dictionary, seen_NW)).float().cpu()


@torch.no_grad()
def reconstructed(dictionary: Dictionary, seen_NW: Tensor) -> Tensor:
    """The reconstruction of the inputs, on the CPU: (N, E) float32."""
    recon_NE: Tensor = dictionary(_own(dictionary, seen_NW))
    return recon_NE.float().cpu()


def _own(dictionary: Dictionary, seen_NW: Tensor) -> Tensor:
    """For rows in context a control reads only the activation, with which they start."""
    return seen_NW[:, : dictionary.input_width].to(dictionary.W_dec.device)


def refuse_unlike_output(dictionary: Dictionary) -> None:
    """Directions are comparable with inputs only if the dictionary writes what it reads.

    Raises:
        Unmeasurable: for a transcoder, and for one that reads context.
    """
    if not dictionary.reconstructs_input:
        raise Unmeasurable("the dictionary writes other activations than it reads")
    if dictionary.reads_context:
        raise Unmeasurable("the dictionary explains a token by the tokens before it, not only by directions")


def document_of(activations: HookpointActivations, batch: TokenBatch) -> NDArray[Any]:
    """Document of each token of a batch: (N,)."""
    return np.asarray(activations.tokens.document_index)[batch.rows_N, batch.positions_N]
