"""Metrics against plain definitions on dense matrices, and the controls."""

from typing import Any

import pytest
import torch

from tasks.dictionaries.base import build_dictionary, dictionary_config
from tasks.dictionaries.metrics import (
    MetricName,
    ReconstructionSums,
    SparsitySums,
    decoder_geometry,
    nearest_cosine,
)
from tasks.measures.controls import fit_pca, fit_random


def random_codes(n: int, d_sae: int, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(2)
    indices = torch.stack([torch.randperm(d_sae - 1, generator=random)[:k] for _ in range(n)])
    values = torch.rand(n, k, generator=random) * (torch.rand(n, k, generator=random) > 0.3)
    return values, indices, torch.zeros(n, d_sae).scatter(1, indices, values)


def test_sparsity_equals_the_definition_on_dense_codes() -> None:
    values, indices, dense = random_codes(500, 40, 6)
    sums = SparsitySums(40)
    for start in range(0, 500, 130):
        sums.add(values[start : start + 130], indices[start : start + 130])
    result = sums.values()
    l0_N, density_L = (dense > 0).sum(dim=1).double(), (dense > 0).double().mean(dim=0)
    assert result[MetricName("l0")] == pytest.approx(float(l0_N.mean()))
    for name, q in (("p05", 0.05), ("median", 0.5), ("p95", 0.95)):
        expected = torch.quantile(l0_N, q, interpolation="higher")
        assert result[MetricName("l0", name)] == pytest.approx(float(expected), abs=1)
        assert result[MetricName("density", name)] == pytest.approx(float(torch.quantile(density_L, q)))
    assert result[MetricName("density", "mean")] == pytest.approx(float(density_L.mean()))
    assert result[MetricName("unseen_share")] == pytest.approx(1 / 40)
    assert result[MetricName("dense_share")] == pytest.approx(float((density_L > 0.1).double().mean()))


def test_fvu_of_a_large_mean_keeps_its_digits() -> None:
    x = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    recon = x + 0.1
    far, near = ReconstructionSums(), ReconstructionSums()
    near.add(x, recon)
    far.add(x + 3e4, recon + 3e4)
    name = MetricName("fvu")
    assert far.values()[name] == pytest.approx(near.values()[name], rel=1e-6)


def test_sums_of_no_token_count_none() -> None:
    """A corpus without an eval document: the training ends, and evaluating says what is missing."""
    assert ReconstructionSums().n == 0


def test_metrics_without_variance_are_null() -> None:
    sums = ReconstructionSums()
    sums.add(torch.zeros(3, 2), torch.zeros(3, 2))
    assert sums.values()[MetricName("fvu")] is None
    assert sums.values()[MetricName("shrinkage")] is None


@pytest.mark.parametrize("block", [1, 3, 7, 2048])
def test_nearest_cosine_is_blocked_exactly(block: int) -> None:
    rows = torch.nn.functional.normalize(torch.randn(7, 4, generator=torch.Generator().manual_seed(0)))
    cosines = (rows @ rows.T).fill_diagonal_(-2)
    torch.testing.assert_close(nearest_cosine(rows, block), cosines.amax(dim=1))
    assert nearest_cosine(rows[:1]).tolist() == [0]


def test_geometry_of_a_fresh_dictionary() -> None:
    config = dictionary_config({"architecture": "topk", "k": 2, "d_sae": 30, "n_tokens": 1})
    result = decoder_geometry(build_dictionary(config, 8))
    assert result[MetricName("decoder_norm", "mean")] == pytest.approx(1)
    assert result[MetricName("encoder_decoder_cosine", "mean")] == pytest.approx(1)


def test_pca_is_the_best_projection(planted: Any) -> None:
    x = planted.valid_tokens("train")
    errors = [float((x - fit_pca(x, k)(x)).square().sum()) for k in (1, 4, 8, 16)]
    singular = torch.linalg.svdvals((x - x.mean(dim=0)).double())
    expected = [float(singular[k:].square().sum()) for k in (1, 4, 8, 16)]
    assert errors[:3] == pytest.approx(expected[:3], rel=1e-4)
    assert errors[3] == pytest.approx(0, abs=1e-4 * errors[0])
    assert fit_pca(x, 99).components.shape == (16, 16)


def test_random_control_is_scaled_to_fit_best(planted: Any) -> None:
    x = planted.valid_tokens("train")
    control = fit_random(x, 2, 48, seed=3)
    assert (control.encode(x[:100]) > 0).sum(dim=1).max() == 2

    def error(factor: float) -> float:
        recon = (control(x) - control.b_dec) * factor + control.b_dec
        return float((x - recon).square().sum())

    assert error(1.0) < min(error(0.97), error(1.03))
    assert error(1.0) < float((x - x.mean(dim=0)).square().sum()), "better than the mean alone"
    assert not torch.equal(control.W_dec, fit_random(x, 2, 48, seed=4).W_dec)
