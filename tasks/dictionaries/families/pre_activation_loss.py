"""The shortfall of latents to their thresholds: a gradient for those that are never active.

Legend: N tokens, D d_in, L d_sae, M chosen latents.
"""

from typing import Any

import torch
from torch import Tensor

from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.kernels.products import product, token_slices


def shortfall(dictionary: Dictionary, x_ND: Tensor, threshold_L: Tensor, chosen_L: Tensor) -> Tensor:
    """``mean_N sum_M relu(threshold - z)`` over the selected latents; 0 if none is selected.

    Differentiable in encoder, bias, centre and threshold. Slice by slice: no matrix (N, M) is kept.

    Args:
        threshold_L: The value that each pre-activation z would have to exceed.
        chosen_L: Which latents are summed: (L,) bool.
    """
    chosen_M = chosen_L.nonzero().squeeze(1)
    if len(chosen_M) == 0:
        return x_ND.new_zeros(())
    arguments = (
        dictionary.centred(x_ND).detach(),
        dictionary.W_enc.T.index_select(0, chosen_M),
        dictionary.b_enc[chosen_M],
        threshold_L[chosen_M],
        dictionary.centre(),
    )
    result: Tensor = _Shortfall.apply(*arguments)  # type: ignore[no-untyped-call]
    return result


class _Shortfall(torch.autograd.Function):
    """The sum and, in the same pass, its gradients: minus the tokens on which each latent falls short."""

    @staticmethod
    def forward(
        ctx: Any,
        centred_ND: Tensor,
        encoder_MD: Tensor,
        bias_M: Tensor,
        threshold_M: Tensor,
        centre_D: Tensor | None,
    ) -> Tensor:
        n_tokens, total = len(centred_ND), centred_ND.new_zeros(())
        n_short_M, inputs_MD = torch.zeros_like(bias_M), torch.zeros_like(encoder_MD)
        for part in token_slices(centred_ND, len(bias_M)):
            short_NM = threshold_M - product(centred_ND[part], encoder_MD.T, bias_M)
            total += short_NM.relu_().sum()
            is_short_NM = (short_NM > 0).to(short_NM)
            n_short_M += is_short_NM.sum(dim=0)
            inputs_MD += product(is_short_NM.T, centred_ND[part])
        share_M = n_short_M / n_tokens
        grad_centre_D = None if centre_D is None else share_M @ encoder_MD
        ctx.save_for_backward(inputs_MD / -n_tokens, -share_M, share_M, grad_centre_D)
        return total / n_tokens

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(None if saved is None else saved * grads[0] for saved in ctx.saved_tensors)
