"""The number format on disk: float16 where nothing is lost by it, else float32."""

import numpy as np
import pytest
import torch

from tasks.activations.caching.precision import FLOAT16_LIMIT, RangeProbe, storable


def _probe(x_ND: torch.Tensor) -> RangeProbe:
    probe = RangeProbe()
    for part in x_ND.split(100):
        probe.add(part)
    return probe


def test_ordinary_values_fit_float16() -> None:
    x = torch.randn(1_000, 32, generator=torch.Generator().manual_seed(0)) * 5
    probe = _probe(x)
    assert probe.choose() == "float16"
    error = (x.double() - x.half().double()).square().sum()
    variance = (x.double() - x.double().mean(0)).square().sum()
    assert probe.rounding_share == pytest.approx(float(error / variance), rel=1e-6)


@pytest.mark.parametrize("peak", [FLOAT16_LIMIT * 1.01, 1e6, 3e38])
def test_large_values_need_float32(peak: float) -> None:
    x = torch.randn(300, 8)
    x[7, 3] = peak
    assert _probe(x).choose() == "float32"


def test_large_offset_with_small_variation_needs_float32() -> None:
    """A dimension that always sits near 3,000 rounds by more than the others vary."""
    x = torch.randn(500, 8, generator=torch.Generator().manual_seed(0)) * 0.1
    x[:, 2] += 3_000
    assert float(x.abs().max()) < FLOAT16_LIMIT
    assert _probe(x).choose() == "float32"


def test_tokens_that_are_not_finite_do_not_decide() -> None:
    x = torch.randn(300, 8)
    x[5] = float("nan")
    x[6, 1] = float("inf")
    assert _probe(x).choose() == "float16"
    assert RangeProbe().choose() == "float16"


@pytest.mark.parametrize(("dtype", "finite"), [("float16", [1, 0, 0, 0, 1]), ("float32", [1, 0, 0, 1, 1])])
def test_what_cannot_be_stored_becomes_zero_and_is_reported(dtype: str, finite: list[int]) -> None:
    x = torch.ones(1, 5, 3)
    x[0, 1, 0] = float("nan")
    x[0, 2, 1] = float("-inf")
    x[0, 3, 2] = 7e4
    padding = torch.tensor([[False, False, False, False, True]])
    values, finite_BT, norms = storable(x, padding, dtype)  # type: ignore[arg-type]
    assert values.dtype == np.dtype(dtype)
    assert finite_BT[0].int().tolist() == finite
    assert np.isfinite(values).all()
    stored = [bool(row.any()) for row in values[0]]
    assert stored == [True, False, False, dtype == "float32", False]
    assert float(norms[0, 0]) == pytest.approx(3**0.5)
