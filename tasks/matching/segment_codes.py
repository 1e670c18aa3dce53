"""Activations of a dictionary's features on the segments of a text: sparse, pooled by the maximum.

Shapes: S segments, L latents, N tokens of a batch, K active latents per token.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import csr_array

from tasks.common.progress import Progress, ProgressListener, silent
from tasks.dictionaries.base import Dictionary
from tasks.matching.alignment import Ints, Segments, TextTokens, common_segments, text_tokens
from tasks.matching.matcher import Side
from tasks.measures.controls import fit_random

_SEQUENCES_PER_BATCH = 64


@dataclass(frozen=True, slots=True)
class PairedCodes:
    """Codes of both sides on the same segments; rows are segments in the order of the text."""

    document: Ints
    """Document of each segment, (S,)."""
    a: csr_array
    """(S, L_a), float64."""
    b: csr_array
    """(S, L_b), float64."""
    random: csr_array
    """Codes of random directions with as many latents and the same sparsity as b, (S, L_b)."""


def paired_codes(
    a: Side,
    b: Side,
    split: str,
    max_segments: int,
    listener: ProgressListener = silent,
    *,
    seed: int = 0,
) -> PairedCodes:
    """Encode the text that both activation sets share; complete documents up to ``max_segments``."""
    rows_a = a.activation_set.sequence_rows(split)  # type: ignore[arg-type]
    rows_b = b.activation_set.sequence_rows(split)  # type: ignore[arg-type]
    tokens_a = text_tokens(a.activation_set.tokens, rows_a)
    tokens_b = text_tokens(b.activation_set.tokens, rows_b)
    segments = _first_documents(common_segments(tokens_a, tokens_b), max_segments)
    codes_a = _codes(a, tokens_a, segments.of_a, segments.n, listener)
    codes_b, l0 = _codes_and_l0(b, tokens_b, segments.of_b, segments.n, listener)
    random = replace(b, dictionary=random_like(b, tokens_b, segments.of_b, l0, seed))
    return PairedCodes(
        document=segments.document,
        a=codes_a,
        b=codes_b,
        random=_codes(random, tokens_b, segments.of_b, segments.n, silent),
    )


def random_like(side: Side, tokens: TextTokens, segment_of: Ints, l0: float, seed: int) -> Dictionary:
    """Random directions on the input of a side: as many latents, of which as many fire on a token.

    They are centred on the mean of the first tokens compared, as a training would do.
    """
    rows = np.unique(tokens.row[segment_of >= 0])[:_SEQUENCES_PER_BATCH]
    _, x_STD, valid_ST = next(iter(side.activation_set.batches(rows, len(rows))))
    x_ND = torch.from_numpy(np.asarray(x_STD[np.asarray(valid_ST, dtype=bool)], dtype=np.float32))
    x_ND = x_ND[torch.isfinite(x_ND).all(dim=1)]
    d_sae = side.dictionary.d_sae
    k = min(max(round(l0), 1), d_sae)
    return fit_random(x_ND, k, d_sae, seed).to(side.dictionary.W_enc.device)


def _first_documents(segments: Segments, max_segments: int) -> Segments:
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


def _codes(
    side: Side, tokens: TextTokens, segment_of: Ints, n_segments: int, listener: ProgressListener
) -> csr_array:
    """Largest activation of every feature within every segment: (S, L)."""
    return _codes_and_l0(side, tokens, segment_of, n_segments, listener)[0]


@torch.inference_mode()
def _codes_and_l0(
    side: Side, tokens: TextTokens, segment_of: Ints, n_segments: int, listener: ProgressListener
) -> tuple[csr_array, float]:
    """The same, and the latents that fire on a token."""
    context = side.activation_set.context_length
    lookup = np.full((int(tokens.row.max(initial=-1)) + 1, context), -1, dtype=np.int64)
    lookup[tokens.row, tokens.position] = segment_of
    wanted = np.unique(tokens.row[segment_of >= 0])
    what = f"tokens encoded with {side.dictionary_id}"
    keys: list[Ints] = []
    values: list[np.ndarray] = []
    d_sae, n_done, n_tokens = side.dictionary.d_sae, 0, 0
    device = side.dictionary.W_enc.device
    for rows, x, _ in side.activation_set.batches(wanted, _SEQUENCES_PER_BATCH):
        segment = lookup[rows]
        used = segment >= 0
        x_ND = torch.from_numpy(np.asarray(x[used], dtype=np.float32)).to(device)
        acts_NK, indices_NK = (part.cpu().numpy() for part in side.dictionary.encode_sparse(x_ND))
        token, place = np.nonzero(np.isfinite(acts_NK) & (acts_NK > 0))
        keys.append(segment[used][token] * d_sae + indices_NK[token, place])
        values.append(acts_NK[token, place].astype(np.float64))
        n_done, n_tokens = n_done + len(rows), n_tokens + int(used.sum())
        listener(Progress(what, n_done * context, len(wanted) * context))
    return _pooled(keys, values, n_segments, d_sae), sum(map(len, values)) / max(n_tokens, 1)


def _pooled(keys: list[Ints], values: list[np.ndarray], n_segments: int, d_sae: int) -> csr_array:
    """Maximum per (segment, latent) key."""
    key = np.concatenate(keys) if keys else np.empty(0, dtype=np.int64)
    value = np.concatenate(values) if values else np.empty(0)
    order = np.lexsort((value, key))
    key, value = key[order], value[order]
    last = np.append(key[1:] != key[:-1], True) if len(key) else np.empty(0, dtype=bool)
    segment, latent = np.divmod(key[last], d_sae)
    return csr_array((value[last], (segment, latent)), shape=(n_segments, d_sae))
