"""The firings of chosen features at chosen places, found in a shard of codes without reading the rest.

Shapes: W windows, E firings of the shard, F firings found.
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.mining.codes import CodeShard

Ints = npt.NDArray[np.int64]
_TYPES = {"I32": np.int32, "F32": np.float32}


def firings_in(
    shard: CodeShard, feature_W: Ints, start_W: Ints, length_W: Ints
) -> tuple[Ints, Ints, npt.NDArray[np.float32]]:
    """The firings of one feature in each window.

    Args:
        shard: Holds all positions of the windows.
        feature_W: The feature of each window.
        start_W: Position at which it begins.
        length_W: Its number of tokens.

    Returns:
        Window, position and activation of each firing: (F,) each.
    """
    positions_E, values_E = _mapped(shard.path, "positions"), _mapped(shard.path, "values")
    begin_W, end_W = shard.offsets_L[feature_W], shard.offsets_L[feature_W + 1]
    first_W = start_W - shard.first_position
    low_W = _lower_bound(positions_E, begin_W, end_W, first_W)
    n_W = _lower_bound(positions_E, low_W, end_W, first_W + length_W) - low_W
    found_F = np.repeat(low_W - np.cumsum(n_W) + n_W, n_W) + np.arange(n_W.sum())
    window_F = np.repeat(np.arange(len(feature_W)), n_W)
    return window_F, positions_E[found_F] + np.int64(shard.first_position), values_E[found_F]


def _lower_bound(sorted_E: np.ndarray, begin_W: Ints, end_W: Ints, value_W: Ints) -> Ints:
    """The first place from ``begin_W`` whose number is at least ``value_W``; ``end_W`` if there is none."""
    low_W, high_W = begin_W.copy(), end_W.copy()
    open_W = np.flatnonzero(low_W < high_W)
    while len(open_W):
        middle = (low_W[open_W] + high_W[open_W]) >> 1
        is_less = sorted_E[middle] < value_W[open_W]
        low_W[open_W[is_less]] = middle[is_less] + 1
        high_W[open_W[~is_less]] = middle[~is_less]
        open_W = open_W[low_W[open_W] < high_W[open_W]]
    return low_W


def _mapped(path: Path, name: str) -> np.ndarray:
    """A tensor of a safetensors file, of which only the pages are read that are asked for."""
    with path.open("rb") as file:
        n_header = int.from_bytes(file.read(8), "little")
        about = json.loads(file.read(n_header))[name]
    begin, end = about["data_offsets"]
    if begin == end:
        return np.zeros(0, _TYPES[about["dtype"]])
    kind = np.dtype(_TYPES[about["dtype"]])
    return np.memmap(path, kind, "r", offset=8 + n_header + begin, shape=((end - begin) // kind.itemsize,))
