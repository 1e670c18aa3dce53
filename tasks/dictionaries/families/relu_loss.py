"""Squared error and sparsity of ReLU-like codes, without the matrix of all codes (N, L) in memory.

Legend: N tokens, D d_in, E d_out, L d_sae, P pairs.

If few latents are active, codes are stored as pairs, and the cost of every gradient is proportional to the
number of pairs. If many are active, as at the start of a training, one pass over slices of tokens computes
codes and gradients. Both give the gradients of plain autograd: that of the threshold is the rectangle
kernel of Rajamanoharan et al. 2024 (arXiv 2407.14435), ``d f / d theta = -(theta / eps) K((z - theta) /
eps)``. An activation f costs f, or ``tanh(c f)``, which hardly grows once a latent is clearly active.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.families.straight_through import in_window, jump, step
from tasks.dictionaries.kernels.products import product, token_slices
from tasks.dictionaries.sparse_codes import n_above, selected_pre_acts
from tasks.dictionaries.sparse_encoding import encode_above

_SPARSE_SHARE = 0.06  # of the latents of a token, up to which pairs are faster than dense products


@dataclass(frozen=True)
class Rectified:
    """The results of ``z * (z > threshold)`` for a batch."""

    objective: Tensor
    """``coefficients.sse * sse + coefficients.cost * cost`` (scalar with a graph)."""
    l0: Tensor
    """Mean number of active latents; its graph leads only to the threshold."""
    sse: Tensor
    """Mean squared error per token (scalar without a graph)."""
    cost: Tensor
    """Mean over tokens of the cost of the activations (scalar without a graph)."""
    fired: Tensor
    """Which latents were active: (L,) bool."""


@dataclass(frozen=True)
class Coefficients:
    """The coefficients of the parts of the objective."""

    sse: float
    cost: float = 0.0
    bandwidth: float = 0.0
    """Width of the window in which a threshold gets a gradient; 0 without thresholds."""
    steepness: float = 0.0
    """An activation f costs ``tanh(steepness * f)`` times the cost of its latent; 0: f times that cost."""


def rectified(
    dictionary: Dictionary,
    x_ND: Tensor,
    y_NE: Tensor,
    threshold_L: Tensor,
    cost_L: Tensor,
    coefficients: Coefficients,
) -> Rectified:
    """Encode, decode and measure one batch.

    Args:
        dictionary: The dictionary with its encoder, decoder, centre and offset.
        threshold_L: The value that a pre-activation must exceed; zeros for ReLU.
        cost_L: The cost of an activation of 1, by latent; with a steepness the cost of the largest.
        coefficients: Those of the parts of the objective.
    """
    # The offset of a code of zeros: b_dec, and a part of x itself in some classes.
    target_NE = y_NE - dictionary.add_offset(torch.zeros_like(y_NE), x_ND)
    with torch.no_grad():
        centred_ND = dictionary.centred(x_ND)
        shift_L = threshold_L - coefficients.bandwidth / 2
        first = next(token_slices(x_ND, dictionary.d_sae))
        pre_NL = product(centred_ND[first], dictionary.W_enc, dictionary.b_enc - shift_L)
        is_sparse = float(n_above(pre_NL, 0.0)) <= _SPARSE_SHARE * pre_NL.numel()
        del pre_NL
    part = _by_pairs if is_sparse else _by_slices
    return part(dictionary, centred_ND, target_NE, threshold_L, cost_L, coefficients)


def _by_pairs(
    dictionary: Dictionary,
    centred_ND: Tensor,
    target_NE: Tensor,
    threshold_L: Tensor,
    cost_L: Tensor,
    coefficients: Coefficients,
) -> Rectified:
    n_tokens, W_enc, b_enc = len(centred_ND), dictionary.W_enc, dictionary.b_enc
    with torch.no_grad():
        shift_L = threshold_L - coefficients.bandwidth / 2
        pairs, above_P = encode_above(centred_ND, W_enc, b_enc - shift_L)
        pre_P = above_P + shift_L[pairs.latents]
    z_P = selected_pre_acts(centred_ND, W_enc, b_enc, dictionary.centre(), pre_P, pairs)
    threshold_P = threshold_L.index_select(0, pairs.latents)
    acts_P = jump(z_P, threshold_P, coefficients.bandwidth)
    sse = (target_NE - pairs.decode(acts_P, dictionary.W_dec)).square().sum() / n_tokens
    costly_P = torch.tanh(coefficients.steepness * acts_P) if coefficients.steepness else acts_P
    cost = (costly_P * cost_L.index_select(0, pairs.latents)).sum() / n_tokens
    l0 = step(z_P, threshold_P, coefficients.bandwidth).sum() / n_tokens
    objective = coefficients.sse * sse + coefficients.cost * cost
    return Rectified(objective, l0, sse.detach(), cost.detach(), pairs.fired(acts_P.detach()))


def _by_slices(
    dictionary: Dictionary,
    centred_ND: Tensor,
    target_NE: Tensor,
    threshold_L: Tensor,
    cost_L: Tensor,
    coefficients: Coefficients,
) -> Rectified:
    parameters = (dictionary.W_enc, dictionary.b_enc, dictionary.centre(), dictionary.W_dec)
    arguments = (centred_ND, target_NE, *parameters, threshold_L, cost_L, coefficients)
    objective, near_L, n_active, sse, cost, fired_L = _Slices.apply(*arguments)  # type: ignore[no-untyped-call]
    l0 = n_active / len(centred_ND)
    if coefficients.bandwidth > 0:
        l0 = _CountedStep.apply(threshold_L, l0, near_L / (coefficients.bandwidth * len(centred_ND)))  # type: ignore[no-untyped-call]
    return Rectified(objective, l0, sse, cost, fired_L)


class _Sums:
    """The gradients of the objective and counts of latents, summed over slices of tokens.

    The gradient of the threshold lacks its factor ``-threshold / bandwidth``.
    """

    def __init__(
        self,
        W_enc: Tensor,
        b_enc: Tensor,
        W_dec: Tensor,
        threshold_L: Tensor,
        cost_L: Tensor,
        coefficients: Coefficients,
        n_tokens: int,
    ) -> None:
        self.W_enc, self.b_enc, self.W_dec, self.threshold_L = W_enc, b_enc, W_dec, threshold_L
        self.coefficients, self.n_tokens = coefficients, n_tokens
        self.cost_L = cost_L * (coefficients.cost / n_tokens)
        self.grad_enc_LD, self.grad_dec_LE = torch.zeros_like(W_enc.T), torch.zeros_like(W_dec)
        self.grad_b_L, self.grad_threshold_L = torch.zeros_like(b_enc), torch.zeros_like(b_enc)
        self.near_L, self.costly_L = torch.zeros_like(b_enc), torch.zeros_like(b_enc)
        self.n_active = b_enc.new_zeros(())

    def add(self, centred_ND: Tensor, target_NE: Tensor) -> Tensor:
        """Add a slice of tokens; return its errors (N, E)."""
        coefficients = self.coefficients
        z_NL = product(centred_ND, self.W_enc, self.b_enc)
        bandwidth = coefficients.bandwidth
        near_NL = in_window(z_NL, self.threshold_L, bandwidth) if bandwidth else None
        acts_NL = z_NL.mul_(z_NL > self.threshold_L) if bandwidth else z_NL.relu_()
        error_NE = product(acts_NL, self.W_dec) - target_NE
        grad_NE = error_NE * (2 * coefficients.sse / self.n_tokens)
        self.grad_dec_LE += product(acts_NL.T, grad_NE)
        grad_NL = product(grad_NE, self.W_dec.T)
        costly_NL, slope = _costly(acts_NL, coefficients.steepness)
        if coefficients.cost:
            grad_NL += slope * self.cost_L
        if near_NL is not None:
            self.near_L += near_NL.sum(dim=0)
            self.grad_threshold_L += (grad_NL * near_NL).sum(dim=0)
        grad_NL = torch.ops.aten.threshold_backward(grad_NL, acts_NL, 0)
        self.grad_enc_LD += product(grad_NL.T, centred_ND)
        self.grad_b_L += grad_NL.sum(dim=0)
        self.costly_L += costly_NL.sum(dim=0)
        self.n_active += n_above(acts_NL, 0.0)
        return error_NE


class _Slices(torch.autograd.Function):
    """The objective and, in the same pass, all its gradients: a slice is used while it is in the cache."""

    @staticmethod
    def forward(
        ctx: Any,
        centred_ND: Tensor,
        target_NE: Tensor,
        W_enc: Tensor,
        b_enc: Tensor,
        centre_D: Tensor | None,
        W_dec: Tensor,
        threshold_L: Tensor,
        cost_L: Tensor,
        coefficients: Coefficients,
    ) -> tuple[Tensor, ...]:
        n_tokens = len(centred_ND)
        sums = _Sums(W_enc, b_enc, W_dec, threshold_L, cost_L, coefficients, n_tokens)
        error_NE = torch.empty_like(target_NE)
        for part in token_slices(centred_ND, len(b_enc)):
            error_NE[part] = sums.add(centred_ND[part], target_NE[part])
        fired_L = sums.costly_L > 0  # activations are never negative
        sse, costly_L = error_NE.square().sum() / n_tokens, sums.costly_L / n_tokens
        cost = (costly_L * cost_L).sum()
        if coefficients.bandwidth:
            sums.grad_threshold_L *= -threshold_L / coefficients.bandwidth
        ctx.save_for_backward(
            error_NE * (-2 * coefficients.sse / n_tokens),
            sums.grad_enc_LD.T,
            sums.grad_b_L,
            None if centre_D is None else -(W_enc @ sums.grad_b_L),
            sums.grad_dec_LE,
            sums.grad_threshold_L,
            costly_L * coefficients.cost,
        )
        ctx.mark_non_differentiable(sums.near_L, sums.n_active, sse, cost, fired_L)
        return (
            coefficients.sse * sse + coefficients.cost * cost,
            sums.near_L,
            sums.n_active,
            sse,
            cost,
            fired_L,
        )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scaled = (None if saved is None else saved * grads[0] for saved in ctx.saved_tensors)
        return None, *scaled, None


def _costly(acts_NL: Tensor, steepness: float) -> tuple[Tensor, Tensor | float]:
    """The factor of the cost of each latent, and its slope: the activations, or their tanh."""
    if not steepness:
        return acts_NL, 1.0
    tanh_NL = torch.tanh(steepness * acts_NL)
    return tanh_NL, steepness * (1 - tanh_NL.square())


class _CountedStep(torch.autograd.Function):
    """A count of active latents; the threshold gets the gradient of the window, ``-near``."""

    @staticmethod
    def forward(ctx: Any, threshold_L: Tensor, l0: Tensor, near_L: Tensor) -> Tensor:
        ctx.save_for_backward(near_L)
        return l0.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (near_L,) = ctx.saved_tensors
        return -grads[0] * near_L, None, None
