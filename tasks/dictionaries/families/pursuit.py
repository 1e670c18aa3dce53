"""Matching pursuit of many tokens at once, plain or orthogonal, and the gradient of its residual.

Legend: N tokens, D d_in, L d_sae, T steps, B tokens of a block, S steps so far.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tasks.dictionaries.kernels.products import product
from tasks.dictionaries.sparse_codes import top_per_token

_BLOCK_CELLS = 1 << 19
"""Upper bound on tokens times latents of a block: the correlations then stay in the cache."""
_GRAM_LATENTS = 1 << 14
"""Up to this many latents their products with each other are stored: 1 GiB of float32."""
_ROUNDING = 32
"""Products below this many units of rounding of the norm of a token are noise, not a further step."""

_RIDGE = 1e-15
"""Added to squared norms, so that two latents with one direction have a solution."""


@dataclass(frozen=True)
class Pursuit:
    """The selections of each step; a token that has ended has value 0 from then on."""

    values: Tensor
    """Coefficient of each step: (N, T), never negative."""
    latents: Tensor
    """Latent of each step: (N, T) int64."""
    residual: Tensor
    """The residual after the last step: (N, D)."""

    def merged(self) -> Tensor:
        """The values (N, T), with those of repeated latents added to the first step that selected them."""
        same_NTT = self.latents.unsqueeze(2) == self.latents.unsqueeze(1)
        first_NT = same_NTT.to(torch.uint8).argmax(dim=2)
        return torch.zeros_like(self.values).scatter_add(1, first_NT, self.values)


def pursue(
    x_ND: Tensor, W_dec: Tensor, n_steps: int, *, stop_below: float = 0.0, stop_on_repeat: bool = False
) -> Pursuit:
    """Subtract, step by step, the unit row of ``W_dec`` with the largest positive product with the residual.

    A token ends when no product exceeds rounding errors, when the norm of its residual is at most
    ``stop_below``, or after it selects a latent for the second time if ``stop_on_repeat``.

    If that is cheaper, a step updates the products ``c <- c - s (D D^T)_j`` instead of computing them from
    the
    residual: L instead of L D operations per token. Always in the precision of ``x_ND``, since the update
    accumulates errors; without a graph.
    """
    n_tokens, n_latents = len(x_ND), len(W_dec)
    with_gram = n_latents <= min(_GRAM_LATENTS, n_tokens * n_steps)
    values_NT = x_ND.new_zeros(n_tokens, n_steps)
    latents_NT = torch.zeros(n_tokens, n_steps, dtype=torch.int64, device=x_ND.device)
    residual_ND = x_ND.clone()
    block = max(1, _BLOCK_CELLS // n_latents)
    with torch.no_grad(), torch.autocast(x_ND.device.type, enabled=False):
        gram_LL = product(W_dec, W_dec.T) if with_gram else None
        for first in range(0, n_tokens, block):
            rows = slice(first, first + block)
            parts = values_NT[rows], latents_NT[rows], residual_ND[rows]
            _pursue_block(*parts, W_dec, gram_LL, stop_below, stop_on_repeat)
    return Pursuit(values_NT, latents_NT, residual_ND)


def _pursue_block(
    values_BT: Tensor,
    latents_BT: Tensor,
    residual_BD: Tensor,
    W_dec: Tensor,
    gram_LL: Tensor | None,
    stop_below: float,
    stop_on_repeat: bool,
) -> None:
    """All steps of a few tokens, written into the first three arguments."""
    products_BL = product(residual_BD, W_dec.T)
    norm_B = residual_BD.norm(dim=1)
    rounding_B = _ROUNDING * torch.finfo(norm_B.dtype).eps * norm_B
    going_B = norm_B > stop_below
    for step in range(values_BT.shape[1]):
        best_B, latent_B = (top.squeeze(1) for top in top_per_token(products_BL, 1))
        going_B &= best_B > rounding_B
        if not going_B.any():
            return
        value_B1 = (best_B * going_B).unsqueeze(1)
        values_BT[:, step], latents_BT[:, step] = value_B1[:, 0], latent_B
        residual_BD.addcmul_(value_B1, W_dec.index_select(0, latent_B), value=-1)
        if gram_LL is None:
            products_BL = product(residual_BD, W_dec.T)
        else:
            products_BL.addcmul_(value_B1, gram_LL.index_select(0, latent_B), value=-1)
        if stop_below > 0:
            going_B &= residual_BD.norm(dim=1) > stop_below
        if stop_on_repeat:
            going_B &= (latents_BT[:, :step] != latent_B.unsqueeze(1)).all(dim=1)


class _Residual(torch.autograd.Function):
    """The last residual; backwards through ``r_t = r_(t-1) - (r_(t-1) . d_t) d_t``, last step first.

    Earlier residuals are recomputed from later ones, so only the codes are stored.
    """

    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, W_dec: Tensor, residual_ND: Tensor, values_NT: Tensor, latents_NT: Tensor
    ) -> Tensor:
        ctx.save_for_backward(W_dec, residual_ND, values_NT, latents_NT)
        return residual_ND.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        W_dec, residual_ND, values_NT, latents_NT = ctx.saved_tensors
        grad_ND, residual_ND = grads[0].clone(), residual_ND.clone()
        grad_W = torch.zeros_like(W_dec)
        for step in reversed(range(values_NT.shape[1])):
            value_N1, latent_N = values_NT[:, step : step + 1], latents_NT[:, step]
            directions_ND = W_dec.index_select(0, latent_N)
            residual_ND.addcmul_(value_N1, directions_ND)
            grad_value_N1 = -(grad_ND * directions_ND).sum(dim=1, keepdim=True) * (value_N1 > 0)
            grad_W.index_add_(0, latent_N, grad_value_N1 * residual_ND - value_N1 * grad_ND)
            grad_ND.addcmul_(grad_value_N1, directions_ND)
        return grad_ND, grad_W, None, None, None


def pursue_orthogonally(x_ND: Tensor, W_dec: Tensor, n_steps: int, *, stop_below: float = 0.0) -> Pursuit:
    """Like `pursue`, but each step solves again for the coefficients of all selected latents.

    They are the least squares solution in which none is negative; a latent whose coefficient would be
    negative leaves and may be selected again. The steps are those of the active set method of Lawson and
    Hanson (1974), so with enough steps the code is the non-negative least squares solution over all
    latents. Solved in float64, because selected directions may be nearly parallel.
    """
    n_tokens, n_latents = len(x_ND), len(W_dec)
    values_NT = x_ND.new_zeros(n_tokens, n_steps)
    latents_NT = torch.zeros(n_tokens, n_steps, dtype=torch.int64, device=x_ND.device)
    residual_ND = x_ND.clone()
    block = max(1, _BLOCK_CELLS // max(n_latents, n_steps * W_dec.shape[1]))
    with torch.no_grad(), torch.autocast(x_ND.device.type, enabled=False):
        for first in range(0, n_tokens, block):
            rows = slice(first, first + block)
            _pursue_orthogonally(values_NT[rows], latents_NT[rows], residual_ND[rows], W_dec, stop_below)
    return Pursuit(values_NT, latents_NT, residual_ND)


def _pursue_orthogonally(
    values_BT: Tensor, latents_BT: Tensor, residual_BD: Tensor, W_dec: Tensor, stop_below: float
) -> None:
    """All steps of a few tokens, written into the first three arguments."""
    (n_tokens, n_steps), x_BD = values_BT.shape, residual_BD.to(torch.float64, copy=True)
    norm_B = residual_BD.norm(dim=1)
    rounding_B = _ROUNDING * torch.finfo(norm_B.dtype).eps * norm_B
    going_B, kept_BT = norm_B > stop_below, torch.zeros_like(values_BT, dtype=torch.bool)
    directions_BTD = x_BD.new_zeros(n_tokens, n_steps, W_dec.shape[1])
    gram_BTT, wanted_BT = x_BD.new_zeros(n_tokens, n_steps, n_steps), x_BD.new_zeros(n_tokens, n_steps)
    for step in range(n_steps):
        products_BL = product(residual_BD, W_dec.T)
        taken_BT = torch.where(kept_BT, -torch.inf, torch.inf).to(products_BL)  # else rounding might choose
        products_BL.scatter_reduce_(1, latents_BT, taken_BT, "amin")
        best_B, latent_B = (top.squeeze(1) for top in top_per_token(products_BL, 1))
        going_B &= best_B > rounding_B
        if not going_B.any():
            return
        latents_BT[:, step], kept_BT[:, step] = latent_B, going_B
        directions_BTD[:, step] = new_BD = W_dec.index_select(0, latent_B).double()
        gram_BTT[:, step] = gram_BTT[:, :, step] = (directions_BTD @ new_BD.unsqueeze(2)).squeeze(2)
        wanted_BT[:, step] = (x_BD * new_BD).sum(dim=1)
        s = slice(step + 1)
        values_BS = _fit_kept(gram_BTT[:, s, s], wanted_BT[:, s], values_BT[:, s].double(), kept_BT[:, s])
        values_BT[:, s] = values_BS.to(values_BT)
        residual_BD.copy_(x_BD - (values_BS.unsqueeze(1) @ directions_BTD[:, s]).squeeze(1))
        if stop_below > 0:
            going_B &= residual_BD.norm(dim=1) > stop_below


def _fit_kept(gram_BSS: Tensor, wanted_BS: Tensor, values_BS: Tensor, kept_BS: Tensor) -> Tensor:
    """Positive coefficients of the kept latents that solve ``gram z = wanted``.

    A latent whose coefficient would not be positive leaves ``kept_BS``. The search starts at ``values_BS``,
    all of them 0 or more.
    """
    while True:
        both_BSS = kept_BS.unsqueeze(2) & kept_BS.unsqueeze(1)
        identity_BSS = torch.diag_embed((~kept_BS).to(gram_BSS) + _RIDGE)
        solved_BS: Tensor = torch.linalg.solve(gram_BSS * both_BSS + identity_BSS, wanted_BS * kept_BS)
        negative_BS = kept_BS & (solved_BS <= 0)
        if not negative_BS.any():
            return solved_BS
        # Move towards the solution until a coefficient becomes 0; the first one that does leaves.
        share_BS = torch.where(negative_BS, values_BS / (values_BS - solved_BS).clamp_min(1e-300), torch.inf)
        share_B1, first_B1 = share_BS.min(dim=1, keepdim=True)
        values_BS = (values_BS + share_B1.clamp_max(1) * (solved_BS - values_BS)) * kept_BS
        leaves_B1 = share_B1.isfinite()
        kept_BS.scatter_(1, first_B1, kept_BS.gather(1, first_B1) & ~leaves_B1)
        values_BS = values_BS.clamp_min(0) * kept_BS


def pursued_residual(x_ND: Tensor, W_dec: Tensor, pursuit: Pursuit) -> Tensor:
    """The last residual of a pursuit of ``x_ND``, differentiable in ``x_ND`` and ``W_dec``: (N, D)."""
    result: Tensor = _Residual.apply(  # type: ignore[no-untyped-call]
        x_ND, W_dec, pursuit.residual, pursuit.values, pursuit.latents
    )
    return result
