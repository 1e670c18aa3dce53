"""JumpReLU and the step function with straight-through gradients of their threshold.

The gradient is that of the rectangle kernel of Rajamanoharan et al. 2024 (arXiv 2407.14435): only values
nearer to the threshold than half the bandwidth count.

Legend: N tokens, L d_sae, P pairs.
"""

from typing import Any

import torch
from torch import Tensor


def in_window(z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """The rectangle kernel: whether z is nearer to the threshold than half the bandwidth."""
    return (z - threshold).abs() < bandwidth / 2


class _Jump(torch.autograd.Function):
    """``z * (z > threshold)``; z gets its plain gradient, the threshold that of the window."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return z * (z > threshold)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        z, threshold = ctx.saved_tensors
        grad_z = grads[0] * (z > threshold)
        if ctx.bandwidth == 0:
            return grad_z, None, None
        near = in_window(z, threshold, ctx.bandwidth)
        grad_threshold = -(threshold / ctx.bandwidth) * (grads[0] * near)
        return grad_z, grad_threshold.sum_to_size(threshold.shape), None


class _Step(torch.autograd.Function):
    """``1[z > threshold]``; only the threshold gets a gradient, that of the window."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return (z > threshold).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.bandwidth == 0:
            return None, None, None
        z, threshold = ctx.saved_tensors
        near = in_window(z, threshold, ctx.bandwidth)
        return None, (-(grads[0] * near) / ctx.bandwidth).sum_to_size(threshold.shape), None


def jump(z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """JumpReLU with the straight-through gradient of the threshold; none with a bandwidth of 0.

    ``threshold`` has the shape of ``z`` (P,), or is one per latent (L,) for ``z`` (N, L).
    """
    result: Tensor = _Jump.apply(z, threshold, bandwidth)  # type: ignore[no-untyped-call]
    return result


def step(z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """1 where z exceeds the threshold, with its straight-through gradient. Feed pre-activations.

    Fed with gated activations, those below the threshold are 0, lie outside the window, and half of the
    gradient is lost.
    """
    result: Tensor = _Step.apply(z, threshold, bandwidth)  # type: ignore[no-untyped-call]
    return result
