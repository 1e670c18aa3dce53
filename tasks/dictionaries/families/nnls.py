"""Semi-nonnegative factorisation and non-negative least squares, pure functions on tensors.

Legend: N tokens, D d_in, K factors. Tokens are rows: ``A_ND ~ G_NK W_KD`` with ``G >= 0``; rows of ``W`` are
the factors, of both signs. The updates are those of Ding, Li and Jordan 2010 (Convex and semi-nonnegative
matrix factorizations, IEEE TPAMI 32), winners and scaling as in SNMF of MLP activations (arXiv 2506.10920).
"""

from typing import Literal

import torch
from torch import Tensor

SMALLEST = 1e-6
"""Multiplicative steps cannot leave zero."""
Start = Literal["kmeans", "svd", "random"]

_KMEANS_ROUNDS = 20
"""Only the starting point; assignments settle sooner."""
_NEGLIGIBLE = 1e-5
"""Relative to the norm of the codes: above the floor that multiplicative steps leave."""


def factor_update(a_ND: Tensor, codes_NK: Tensor, ridge: float = SMALLEST) -> Tensor:
    """The factors that fit best to given codes: ``(G'G + ridge I)^-1 G'A``, (K, D)."""
    gram_KK = codes_NK.T @ codes_NK
    gram_KK.diagonal().add_(ridge)
    factors_KD: Tensor = torch.linalg.solve(gram_KK, codes_NK.T @ a_ND)
    return factors_KD


def code_update(a_ND: Tensor, factors_KD: Tensor, codes_NK: Tensor, floor: float = SMALLEST) -> Tensor:
    """One multiplicative step of the codes, (N, K); the squared error does not increase.

    ``G * sqrt((P+ + G Q-) / (P- + G Q+ + floor))`` with ``P = A W'``, ``Q = W W'`` and the positive and
    negative parts of each.
    """
    products_NK, gram_KK = a_ND @ factors_KD.T, factors_KD @ factors_KD.T
    up_NK = torch.addmm(products_NK.relu(), codes_NK, (-gram_KK).relu())
    down_NK = torch.addmm((-products_NK).relu(), codes_NK, gram_KK.relu()).add_(floor)
    return codes_NK * (up_NK / down_NK).sqrt_()


def keep_winners(factors_KD: Tensor, share: float) -> Tensor:
    """Only the largest ``share`` of the entries of each factor by absolute value, at least one."""
    n_kept = max(round(share * factors_KD.shape[1]), 1)
    kept_Kn = factors_KD.abs().topk(n_kept, dim=1).indices
    return torch.zeros_like(factors_KD).scatter(1, kept_Kn, factors_KD.gather(1, kept_Kn))


def balanced(factors_KD: Tensor, codes_NK: Tensor) -> tuple[Tensor, Tensor]:
    """The same product with codes of unit norm per factor."""
    norms_K = codes_NK.norm(dim=0).clamp_min(1e-30)
    return factors_KD * norms_K[:, None], codes_NK / norms_K


def squared_error(a_ND: Tensor, factors_KD: Tensor, codes_NK: Tensor) -> float:
    """Sum over tokens and dimensions of ``(A - G W)^2``, accumulated in float64."""
    total = 0.0
    for rows_nD, codes_nK in zip(torch.split(a_ND, 4096), torch.split(codes_NK, 4096), strict=True):
        error_nD = torch.addmm(rows_nD, codes_nK, factors_KD, alpha=-1)
        total += float(error_nD.square_().sum(dtype=torch.float64))
    return total


def first_codes(a_ND: Tensor, n_factors: int, start: Start, generator: torch.Generator) -> Tensor:
    """The initial codes, (N, K), every entry at least `SMALLEST`.

    ``kmeans``: one for the nearest of K centres, 0.2 elsewhere. ``svd``: the positive part of the leading
    singular vectors, each with its heavier sign, and random beyond the rank. ``random``: uniform.
    """
    if start == "kmeans":
        return _kmeans_codes(a_ND, n_factors, generator)
    codes_NK = torch.rand(len(a_ND), n_factors, generator=generator, dtype=torch.float32).to(a_ND)
    if start == "svd":
        values_D, vectors_DD = torch.linalg.eigh(a_ND.double().T @ a_ND.double())
        rank = min(n_factors, int((values_D > 1e-10 * values_D[-1]).sum()))
        vectors_DR = vectors_DD.flip(1)[:, :rank] / values_D.flip(0)[:rank].pow(0.25)
        leading_NR = a_ND @ vectors_DR.to(a_ND)  # U sqrt(S), up to the sign of each column
        heavier_R = (leading_NR.relu().norm(dim=0) >= (-leading_NR).relu().norm(dim=0)).to(a_ND)
        codes_NK[:, :rank] = leading_NR * (2 * heavier_R - 1)
    return codes_NK.clamp_min_(SMALLEST)


def _kmeans_codes(a_ND: Tensor, n_factors: int, generator: torch.Generator) -> Tensor:
    order_N = torch.randperm(len(a_ND), generator=generator)
    centres_KD = a_ND[order_N[torch.arange(n_factors) % len(a_ND)].to(a_ND.device)].clone()
    nearest_N = torch.zeros(len(a_ND), dtype=torch.int64, device=a_ND.device)
    for _ in range(_KMEANS_ROUNDS):
        distance_NK = centres_KD.square().sum(dim=1) - 2 * (a_ND @ centres_KD.T)
        moved_N = distance_NK.argmin(dim=1)
        if torch.equal(moved_N, nearest_N):
            break
        nearest_N = moved_N
        sums_KD = torch.zeros_like(centres_KD).index_add_(0, nearest_N, a_ND)
        n_K1 = torch.bincount(nearest_N, minlength=n_factors)[:, None]
        centres_KD = torch.where(n_K1 > 0, sums_KD / n_K1.clamp_min(1), centres_KD)
    codes_NK = a_ND.new_full((len(a_ND), n_factors), 0.2)
    return codes_NK.scatter_(1, nearest_N[:, None], 1.2)


@torch.no_grad()
def nonnegative_codes(
    x_ND: Tensor, directions_KD: Tensor, *, tolerance: float = 1e-5, max_iterations: int = 2000
) -> Tensor:
    """For each token independently ``argmin_{z >= 0} |x - z W|^2``: (N, K).

    Accelerated projected gradient with restarts per token (Beck and Teboulle 2009; O'Donoghue and Candes
    2015), from zero. A token is done when no entry of the projected gradient exceeds ``tolerance`` times the
    norm of the token; entries below 1e-5 of that norm then count as zero.

    Args:
        directions_KD: Rows of unit norm, or zero for a factor that is never used.
    """
    gram_KK, products_NK = directions_KD @ directions_KD.T, x_ND @ directions_KD.T
    step = 1 / float(torch.linalg.matrix_norm(gram_KK, 2).clamp_min(1e-12))
    norm_N1 = x_ND.norm(dim=1, keepdim=True)
    codes_NK = torch.zeros_like(products_NK)
    busy_n = torch.arange(len(x_ND), device=x_ND.device)
    z_nK, y_nK, momentum_n1 = codes_NK.clone(), codes_NK.clone(), torch.ones_like(norm_N1)
    products_nK, limit_n1 = products_NK, tolerance * norm_N1
    for _ in range(max_iterations):
        if not len(busy_n):
            break
        gradient_nK = torch.addmm(products_nK, y_nK, gram_KK, beta=-1)
        moved_nK = torch.add(y_nK, gradient_nK, alpha=-step).clamp_min_(0)
        is_done_n = (moved_nK - y_nK).abs_().amax(dim=1) <= step * limit_n1.squeeze(1)
        uphill_n1 = (gradient_nK * (moved_nK - z_nK)).sum(dim=1, keepdim=True) > 0
        momentum_n1 = torch.where(uphill_n1, 1.0, momentum_n1)
        next_n1 = (1 + (1 + 4 * momentum_n1.square()).sqrt()) / 2
        y_nK = moved_nK + (moved_nK - z_nK) * ((momentum_n1 - 1) / next_n1)
        z_nK, momentum_n1 = moved_nK, next_n1
        if is_done_n.any():
            codes_NK[busy_n[is_done_n]] = z_nK[is_done_n]
            left_n = ~is_done_n
            busy_n, z_nK, y_nK, momentum_n1, products_nK, limit_n1 = (
                values[left_n] for values in (busy_n, z_nK, y_nK, momentum_n1, products_nK, limit_n1)
            )
    codes_NK[busy_n] = z_nK
    return codes_NK.masked_fill_(codes_NK <= _NEGLIGIBLE * norm_N1, 0)
