"""Codes of two dictionaries, and of random directions, on the segments of the text that both have read.

Shapes: S segments, L latents.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import csr_array

from tasks.activations.text.alignment import Ints, TextTokens, common_segments, text_tokens
from tasks.common.progress import ProgressListener, silent
from tasks.dictionaries.base import Dictionary
from tasks.matching.matcher import Side
from tasks.measures.controls import fit_random
from tasks.measures.segment_codes import SegmentCodes, first_documents, segment_codes

_SEQUENCES_OF_SAMPLE = 64


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
    segments = first_documents(common_segments(tokens_a, tokens_b), max_segments)
    of_a = _codes(a, tokens_a, segments.of_a, segments.n, listener)
    of_b = _codes(b, tokens_b, segments.of_b, segments.n, listener)
    random = replace(b, dictionary=random_like(b, tokens_b, segments.of_b, of_b.l0, seed))
    of_random = _codes(random, tokens_b, segments.of_b, segments.n, silent)
    return PairedCodes(segments.document, of_a.codes, of_b.codes, of_random.codes)


def random_like(side: Side, tokens: TextTokens, segment_of: Ints, l0: float, seed: int) -> Dictionary:
    """Random directions on the input of a side: as many latents, of which as many fire on a token.

    They are centred on the mean of the first tokens compared, as a training would do.
    """
    rows = np.unique(tokens.row[segment_of >= 0])[:_SEQUENCES_OF_SAMPLE]
    _, x_STD, valid_ST = next(iter(side.activation_set.batches(rows, len(rows))))
    x_ND = torch.from_numpy(np.asarray(x_STD[np.asarray(valid_ST, dtype=bool)], dtype=np.float32))
    x_ND = x_ND[torch.isfinite(x_ND).all(dim=1)]
    d_sae = side.dictionary.d_sae
    k = min(max(round(l0), 1), d_sae)
    return fit_random(x_ND, k, d_sae, seed).to(side.dictionary.W_enc.device)


def _codes(
    side: Side, tokens: TextTokens, segment_of: Ints, n_segments: int, listener: ProgressListener
) -> SegmentCodes:
    what = f"tokens encoded with {side.dictionary_id}"
    return segment_codes(side.dictionary, side.activation_set, tokens, segment_of, n_segments, what, listener)
