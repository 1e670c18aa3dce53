"""Activations of a dictionary's features on the segments of a text: sparse, pooled by the maximum.

Segments are those of ``tasks.activations.text.alignment``. Shapes: S segments, L latents, N tokens of a
batch, K active latents per token.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array

from tasks.activations.reading.shards import ActivationSet
from tasks.activations.text.alignment import Ints, Segments, TextTokens
from tasks.common.progress import Progress, ProgressListener, silent
from tasks.dictionaries.base import Dictionary

_SEQUENCES_PER_BATCH = 64

OnBatch = Callable[[Ints, npt.NDArray[np.float32]], None]
"""Called with the segment of each encoded token (N,) and its activations (N, d_in)."""


@dataclass(frozen=True, slots=True)
class SegmentCodes:
    """The codes of a text."""

    codes: csr_array
    """Largest activation of every feature within every segment: (S, L), float64."""
    l0: float
    """Mean number of latents that fire on a token."""


def first_documents(segments: Segments, max_segments: int) -> Segments:
    """The first complete documents that fit into ``max_segments`` (at least one)."""
    if segments.n <= max_segments:
        return segments
    n_kept = int(np.searchsorted(segments.document, segments.document[max_segments], side="left"))
    n_kept = n_kept or int(np.searchsorted(segments.document, segments.document[0], side="right"))
    return Segments(
        document=segments.document[:n_kept],
        of_a=np.where(segments.of_a < n_kept, segments.of_a, -1),
        of_b=np.where(segments.of_b < n_kept, segments.of_b, -1),
    )


@torch.inference_mode()
def segment_codes(
    dictionary: Dictionary,
    activation_set: ActivationSet,
    tokens: TextTokens,
    segment_of: Ints,
    n_segments: int,
    what: str,
    listener: ProgressListener = silent,
    on_batch: OnBatch | None = None,
) -> SegmentCodes:
    """Encode the tokens that belong to a segment.

    Args:
        dictionary: What encodes.
        activation_set: The activations of the tokens.
        tokens: Tokens with characters, from `text_tokens`.
        segment_of: Segment of each of them, -1 for none.
        n_segments: Segments, S.
        what: What the progress says.
        listener: Hears the progress.
        on_batch: Hears the activations that pass by.
    """
    context = activation_set.context_length
    lookup = np.full((int(tokens.row.max(initial=-1)) + 1, context), -1, dtype=np.int64)
    lookup[tokens.row, tokens.position] = segment_of
    wanted = np.unique(tokens.row[segment_of >= 0])
    keys: list[Ints] = []
    values: list[np.ndarray] = []
    d_sae, n_done, n_tokens = dictionary.d_sae, 0, 0
    device = dictionary.W_enc.device
    for rows, x, _ in activation_set.batches(wanted, _SEQUENCES_PER_BATCH):
        segment = lookup[rows]
        used = segment >= 0
        x_ND = np.asarray(x[used], dtype=np.float32)
        if on_batch is not None:
            on_batch(segment[used], x_ND)
        encoded = dictionary.encode_sparse(torch.from_numpy(x_ND).to(device))
        acts_NK, indices_NK = (part.cpu().numpy() for part in encoded)
        token, place = np.nonzero(np.isfinite(acts_NK) & (acts_NK > 0))
        keys.append(segment[used][token] * d_sae + indices_NK[token, place])
        values.append(acts_NK[token, place].astype(np.float64))
        n_done, n_tokens = n_done + len(rows), n_tokens + int(used.sum())
        listener(Progress(what, n_done * context, len(wanted) * context))
    n_firings = sum(map(len, values))
    return SegmentCodes(_pooled(keys, values, n_segments, d_sae), n_firings / max(n_tokens, 1))


def _pooled(keys: list[Ints], values: list[np.ndarray], n_segments: int, d_sae: int) -> csr_array:
    """Maximum per (segment, latent) key."""
    key = np.concatenate(keys) if keys else np.empty(0, dtype=np.int64)
    value = np.concatenate(values) if values else np.empty(0)
    order = np.lexsort((value, key))
    key, value = key[order], value[order]
    last = np.append(key[1:] != key[:-1], True) if len(key) else np.empty(0, dtype=bool)
    segment, latent = np.divmod(key[last], d_sae)
    return csr_array((value[last], (segment, latent)), shape=(n_segments, d_sae))
