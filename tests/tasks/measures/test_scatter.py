"""The scatter of decoder rows: its moments, its tail against sampling and closed forms."""

import numpy as np
import pytest
import torch
from scipy.special import betainc

from tasks.measures.scatter import Scatter, scatter_of


def gaussian_rows(n: int, d: int, decay: float, seed: int) -> torch.Tensor:
    """Rows whose covariance falls off as k^-decay."""
    spread_D = np.arange(1, d + 1) ** (-decay / 2)
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d)) * spread_D).float()


def unit(rows: torch.Tensor) -> torch.Tensor:
    return rows / rows.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("n", [20, 400])
@pytest.mark.parametrize("decay", [0.0, 1.0, 2.0])
def test_drawn_directions_have_the_second_moment_of_the_rows(n: int, decay: float) -> None:
    rows = gaussian_rows(n, 32, decay, 0)
    drawn = scatter_of(rows).draw(200_000, 1)
    wanted, got = (unit(each).T @ unit(each) / len(each) for each in (rows, drawn))
    torch.testing.assert_close(got, wanted, atol=4e-3, rtol=0.02)
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(len(drawn)))


def test_the_tail_of_isotropic_directions_is_the_closed_form() -> None:
    for d in (16, 64, 256):
        cosine = np.array([0.05, 0.1, 0.2, 0.3, 0.5])
        rows = np.eye(d)[: len(cosine)]
        exact = 0.5 * betainc((d - 1) / 2, 0.5, 1 - cosine**2)
        isotropic = Scatter(np.full(d, 1 / d), np.eye(d))
        np.testing.assert_allclose(isotropic.exceeds(rows, cosine), exact, rtol=0.15)
        np.testing.assert_allclose(isotropic.exceeds(rows, -cosine), 1 - exact, rtol=0.02)


def test_the_tail_agrees_with_sampling_where_directions_are_shared() -> None:
    scatter = scatter_of(gaussian_rows(500, 24, 1.5, 2))
    drawn = scatter.draw(400_000, 3)
    rows = unit(gaussian_rows(40, 24, 1.5, 4))
    for limit in (0.0, 0.3, 0.6):
        cosine = np.full(len(rows), limit)
        sampled = (rows @ drawn.T > limit).double().mean(dim=1).numpy()
        tail = scatter.exceeds(rows.double().numpy(), cosine)
        np.testing.assert_allclose(tail, sampled, rtol=0.2, atol=2e-4)


def test_rows_of_norm_zero_and_no_rows_at_all_are_no_obstacle() -> None:
    rows = gaussian_rows(50, 8, 1.0, 5)
    with_zeros = torch.cat([rows, torch.zeros(10, 8)])
    np.testing.assert_allclose(scatter_of(with_zeros).values, scatter_of(rows).values)
    np.testing.assert_allclose(scatter_of(torch.zeros(3, 8)).values, np.full(8, 1 / 8))
