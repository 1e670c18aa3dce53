"""Firings that are looked up are those that a reading of the whole shard gives."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tasks.mining.codes import CodeShard
from tasks.mining.lookups import firings_in

N_FEATURES, N_SEQUENCES, CONTEXT = 9, 5, 32


def shard_of(folder: Path, density: float, seed: int) -> CodeShard:
    """Random firings; the last feature never fires."""
    rng = np.random.default_rng(seed)
    fires_LN = rng.random((N_FEATURES, N_SEQUENCES * CONTEXT)) < density
    fires_LN[-1] = False
    feature_E, position_E = np.nonzero(fires_LN)
    tensors = {
        "positions": position_E.astype(np.int32),
        "values": rng.random(len(feature_E), dtype=np.float32) + 1,
        "offsets": np.searchsorted(feature_E, np.arange(N_FEATURES + 1)),
    }
    save_file(tensors, folder / "shard.safetensors", metadata={"facts": "{}"})
    counts = (N_SEQUENCES * CONTEXT, 0)
    return CodeShard(
        folder / "shard.safetensors", 7, N_SEQUENCES, CONTEXT, *counts, offsets_L=tensors["offsets"]
    )


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 1.0])
def test_every_window_gets_the_firings_of_its_feature(tmp_path: Path, density: float) -> None:
    shard = shard_of(tmp_path, density, seed=int(10 * density))
    rng = np.random.default_rng(1)
    feature_W = rng.integers(0, N_FEATURES, 200)
    start_W = shard.first_position + rng.integers(0, N_SEQUENCES * CONTEXT, 200)
    length_W = np.minimum(rng.integers(0, 12, 200), shard.end_position - start_W)
    window_F, position_F, value_F = firings_in(shard, feature_W, start_W, length_W)
    found = set(zip(window_F.tolist(), position_F.tolist(), value_F.tolist(), strict=True))
    firings = shard.firings()
    expected = {
        (window, position, value)
        for window in range(200)
        for feature, position, value in zip(
            firings.features_E.tolist(), firings.positions_E.tolist(), firings.values_E.tolist(), strict=True
        )
        if feature == feature_W[window] and start_W[window] <= position < start_W[window] + length_W[window]
    }
    assert len(found) == len(window_F)
    assert found == expected
    assert bool(found) == (density > 0)
