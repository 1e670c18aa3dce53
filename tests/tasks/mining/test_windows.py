"""Contexts stay in their chunk, hold their peak and never overlap."""

from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.mining.codes import Firings
from tasks.mining.windows import chunk_starts, find_peaks, windows_around

SEGMENTS = st.lists(
    st.lists(st.integers(1, 9), min_size=1, max_size=8).map(lambda lengths: (lengths * 20)[:20]),
    min_size=1,
    max_size=4,
)
CONTEXT = 20


def _segments(lengths_per_row: list[list[int]]) -> np.ndarray:
    rows = [np.repeat(np.arange(len(lengths)), lengths)[:CONTEXT] for lengths in lengths_per_row]
    return np.stack([np.pad(row, (0, CONTEXT - len(row)), constant_values=-1) for row in rows])


@given(SEGMENTS, st.integers(4, 9), st.integers(2, 4), st.integers(0, 3))
def test_windows_lie_in_one_chunk_around_their_peak(lengths, chunk_tokens, window, before) -> None:
    segment = _segments(lengths)
    before = min(before, window - 1)
    tokens = SimpleNamespace(segment=segment)
    positions = np.arange(segment.size)
    found = windows_around(tokens, positions, chunk_tokens=chunk_tokens, window=window, before=before)
    begins = chunk_starts(segment, chunk_tokens).ravel()
    chunk = np.cumsum(begins)
    for position, start, length in zip(positions, found.start_W, found.length_W, strict=True):
        assert start <= position < start + length
        assert len(set(chunk[start : start + length])) == 1
        n_in_chunk = int((chunk == chunk[position]).sum())
        assert length == min(window, n_in_chunk)
        ahead = position - start
        n_after = n_in_chunk - 1 - int((chunk[:position] == chunk[position]).sum())
        assert ahead == before or start in np.flatnonzero(begins) or n_after < window - 1 - before


@given(SEGMENTS, st.integers(0, 10**6))
def test_peaks_equal_a_plain_loop(lengths, seed) -> None:
    segment = _segments(lengths)
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (3, segment.size)) * (rng.random((3, segment.size)) < 0.5)
    features, positions = np.nonzero(codes)
    firings = Firings(features.astype(np.int32), positions + 100, codes[codes > 0].astype(np.float32))
    begins = chunk_starts(segment, 6).ravel()
    chunk = 100 + np.maximum.accumulate(np.where(begins, np.arange(segment.size), 0))
    expected = {}
    for feature, position in zip(features, positions, strict=True):
        key = (feature, chunk[position])
        value = codes[feature, position]
        if key not in expected or value > expected[key][1]:
            expected[key] = (position + 100, value)
    peaks = find_peaks(firings, chunk, 100)
    found = {
        (feature, start): (position, value)
        for feature, start, position, value in zip(
            peaks.features_R, peaks.chunks_R, peaks.positions_R, peaks.values_R, strict=True
        )
    }
    assert found == expected


def test_chunks_are_counted_from_the_begin_of_their_segment() -> None:
    segment = np.array([[0] * 5 + [1] * 7 + [-1] * 2])
    begins = np.flatnonzero(chunk_starts(segment, 3)[0])
    assert begins.tolist() == [0, 3, 5, 8, 11, 12]
