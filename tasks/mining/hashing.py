"""Random numbers that depend only on what is drawn, never on when: draws by hash.

A draw by the smallest hashes gives the same sample whatever the batch size, the order, or the number
of interruptions.
"""

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FACTOR_1 = np.uint64(0xBF58476D1CE4E5B9)
_FACTOR_2 = np.uint64(0x94D049BB133111EB)


def hash64(seed: int, *parts: np.ndarray) -> np.ndarray:
    """Mix ``seed`` and integer arrays of one shape into uint64 (finaliser of splitmix64)."""
    shape = np.broadcast_shapes(*(part.shape for part in parts))
    state = np.full(shape, seed % 2**64, dtype=np.uint64)
    for part in parts:
        state = _finalise(state ^ (part.astype(np.uint64) + _GAMMA))
    return state


def uniform(seed: int, *parts: np.ndarray) -> np.ndarray:
    """Numbers in (0, 1) as float64, one per element of ``parts``."""
    high_bits = (hash64(seed, *parts) >> np.uint64(11)).astype(np.float64)
    return (high_bits + 0.5) / 2**53


def _finalise(state: np.ndarray) -> np.ndarray:
    state = state + _GAMMA
    state = (state ^ (state >> np.uint64(30))) * _FACTOR_1
    state = (state ^ (state >> np.uint64(27))) * _FACTOR_2
    mixed: np.ndarray = state ^ (state >> np.uint64(31))
    return mixed
