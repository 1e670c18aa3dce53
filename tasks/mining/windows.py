"""Contexts: the peak of a feature and the tokens around it.

Sequences hold segments (stretches of one document); segments are divided into chunks of at most
``chunk_tokens`` tokens. A feature has one context per chunk, cut inside the chunk, so that no two contexts
of a feature overlap and none crosses a document.

Shapes: B sequences, T context, W windows, E firings, R runs (feature, chunk).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.mining.codes import Firings

if TYPE_CHECKING:
    from tasks.activations.text.packing import PackedTokens

_ROWS_AT_ONCE = 16_384


def chunk_starts(segment_BT: np.ndarray, chunk_tokens: int) -> np.ndarray:
    """Flags (B, T): the first token of each chunk. Chunks are counted from the segment's start."""
    n_sequences, context_length = segment_BT.shape
    begins = np.ones((n_sequences, context_length), dtype=bool)
    begins[:, 1:] = segment_BT[:, 1:] != segment_BT[:, :-1]
    token = np.arange(context_length)
    segment_begin = np.maximum.accumulate(np.where(begins, token, 0), axis=1)
    flags: np.ndarray = (token - segment_begin) % chunk_tokens == 0
    return flags


@dataclass(frozen=True)
class Peaks:
    """The strongest token of each (feature, chunk) in which the feature fires; the first of equals."""

    features_R: np.ndarray
    chunks_R: np.ndarray
    positions_R: np.ndarray
    values_R: np.ndarray


def find_peaks(firings: Firings, chunk_of_position: np.ndarray, first_position: int) -> Peaks:
    """Reduce firings (sorted by feature, position) to one peak per feature and chunk.

    ``chunk_of_position[p - first_position]`` is the position at which the chunk of ``p`` begins.
    """
    if len(firings.features_E) == 0:
        nothing = np.zeros(0, dtype=np.int64)
        return Peaks(nothing, nothing, nothing, np.zeros(0, dtype=np.float32))
    chunks_E = chunk_of_position[firings.positions_E - first_position]
    begins = np.ones(len(chunks_E), dtype=bool)
    begins[1:] = (chunks_E[1:] != chunks_E[:-1]) | (firings.features_E[1:] != firings.features_E[:-1])
    start_R = np.flatnonzero(begins)
    run_E = np.cumsum(begins) - 1
    highest_R = np.maximum.reduceat(firings.values_E, start_R)
    at_peak = np.flatnonzero(firings.values_E == highest_R[run_E])
    _, first = np.unique(run_E[at_peak], return_index=True)
    peak_R = at_peak[first]
    return Peaks(
        firings.features_E[start_R].astype(np.int64),
        chunks_E[start_R].astype(np.int64),
        firings.positions_E[peak_R],
        highest_R,
    )


@dataclass(frozen=True)
class Windows:
    """Contexts as position ranges, with the chunk each lies in."""

    chunk_W: np.ndarray
    start_W: np.ndarray
    length_W: np.ndarray


def windows_around(
    tokens: "PackedTokens", position_W: np.ndarray, *, chunk_tokens: int, window: int, before: int
) -> Windows:
    """The context around each position: ``before`` tokens ahead of it if the chunk has them."""
    parts = [
        _windows(tokens, position_W[begin : begin + _ROWS_AT_ONCE], chunk_tokens, window, before)
        for begin in range(0, len(position_W), _ROWS_AT_ONCE)
    ]
    if not parts:
        nothing = np.zeros(0, dtype=np.int64)
        return Windows(nothing, nothing, nothing)
    chunk_W, start_W, length_W = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Windows(chunk_W, start_W, length_W)


def _windows(
    tokens: "PackedTokens", position_W: np.ndarray, chunk_tokens: int, window: int, before: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    context_length = tokens.segment.shape[1]
    sequence_W, token_W = np.divmod(position_W, context_length)
    rows, row_of_W = np.unique(sequence_W, return_inverse=True)
    chunk_number_BT = np.cumsum(chunk_starts(np.asarray(tokens.segment[rows]), chunk_tokens), axis=1)
    inside_WT = chunk_number_BT[row_of_W] == chunk_number_BT[row_of_W, token_W][:, None]
    begin_W = inside_WT.argmax(axis=1)
    end_W = context_length - inside_WT[:, ::-1].argmax(axis=1)
    start_W = np.clip(token_W - before, begin_W, np.maximum(begin_W, end_W - window))
    length_W = np.minimum(start_W + window, end_W) - start_W
    offset_W = sequence_W * context_length
    return offset_W + begin_W, offset_W + start_W, length_W
