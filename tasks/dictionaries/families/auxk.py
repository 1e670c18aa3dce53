"""AuxK: dead latents learn to reconstruct the residual (Gao et al. 2024, arXiv 2406.04093)."""

from typing import Any

import torch
from torch import Tensor

from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.kernels.products import product
from tasks.dictionaries.sparse_codes import Pairs, selected_acts, smallest_kept
from tasks.dictionaries.sparse_encoding import encode_top

_DENSE_RATIO = 16  # dead latents per selected one up to which dense products are faster than pairs


def aux_ratio(residual_ND: Tensor, aux_recon_ND: Tensor) -> Tensor:
    """Squared error of the residual's reconstruction over the residual's variance in the batch.

    ``mean_N sum_D (e - e_hat)^2 / mean_N sum_D (e - mean_N e)^2``; 0 if the residual is constant.
    """
    centred_ND = residual_ND - residual_ND.mean(dim=0)
    variance = centred_ND.square().sum()
    ratio = (residual_ND - aux_recon_ND).square().sum() / variance.clamp_min(1e-30)
    return ratio * (variance > 1e-30)


def aux_loss(
    dictionary: Dictionary, centred_ND: Tensor, residual_NE: Tensor, dead_L: Tensor, k_aux: int
) -> Tensor:
    """AuxK of one batch, or 0 without dead latents; ``residual_NE`` is ``y - recon`` without its graph.

    For each token the ``k_aux`` dead latents with the largest positive pre-activations are used. A dead
    latent that is negative for all tokens gets no gradient here either.
    """
    dead_M = dead_L.nonzero().squeeze(1)
    if len(dead_M) == 0:
        return residual_NE.new_zeros(())
    dense = len(dead_M) <= _DENSE_RATIO * k_aux
    recon = _dense_recon if dense else _sparse_recon
    return aux_ratio(residual_NE, recon(dictionary, centred_ND, dead_M, k_aux))


def _sparse_recon(dictionary: Dictionary, centred_ND: Tensor, dead_M: Tensor, k_aux: int) -> Tensor:
    """The reconstruction of each token by the selected dead latents (N, E), pair by pair."""
    W_enc, b_enc, centre = dictionary.W_enc, dictionary.b_enc, dictionary.centre()
    with torch.no_grad():
        encoder_DM = W_enc.T.index_select(0, dead_M).T
        values_NK, positions_NK = encode_top(centred_ND, encoder_DM, b_enc[dead_M], k_aux)
        keep_NK = values_NK > 0
        counts_N = keep_NK.sum(dim=1)
        tokens_P = torch.arange(len(counts_N), device=dead_M.device).repeat_interleave(counts_N)
        latents_P = dead_M[positions_NK[keep_NK]]
        pairs = Pairs(tokens_P, latents_P, counts_N.cumsum(0) - counts_N, dictionary.d_sae)
    acts_P = selected_acts(centred_ND, W_enc, b_enc, centre, values_NK[keep_NK], pairs)
    return pairs.decode(acts_P, dictionary.W_dec)


def _dense_recon(dictionary: Dictionary, centred_ND: Tensor, dead_M: Tensor, k_aux: int) -> Tensor:
    """The same as products with the rows of the dead latents: faster if most of them are selected."""
    encoder_MD = dictionary.W_enc.T.index_select(0, dead_M)
    decoder_ME = dictionary.W_dec.index_select(0, dead_M)
    arguments = (centred_ND, encoder_MD, dictionary.b_enc[dead_M], dictionary.centre(), decoder_ME, k_aux)
    result: Tensor = _DeadCodes.apply(*arguments)  # type: ignore[no-untyped-call]
    return result


class _DeadCodes(torch.autograd.Function):
    """Codes of the dead latents, the k_aux largest of each token, times their directions."""

    @staticmethod
    def forward(
        ctx: Any,
        centred_ND: Tensor,
        encoder_MD: Tensor,
        bias_M: Tensor,
        centre_D: Tensor | None,
        decoder_ME: Tensor,
        k_aux: int,
    ) -> Tensor:
        codes_NM = product(centred_ND, encoder_MD.T, bias_M)
        if k_aux < codes_NM.shape[1]:
            codes_NM.mul_(codes_NM >= smallest_kept(codes_NM, k_aux).unsqueeze(1))
        codes_NM.relu_()
        ctx.save_for_backward(centred_ND, encoder_MD, decoder_ME, codes_NM)
        ctx.has_centre = centre_D is not None
        return product(codes_NM, decoder_ME)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        centred_ND, encoder_MD, decoder_ME, codes_NM = ctx.saved_tensors
        grad_codes = product(grads[0], decoder_ME.T).mul_(codes_NM > 0)
        grad_bias = grad_codes.sum(dim=0)
        grad_centre = -(grad_bias @ encoder_MD) if ctx.has_centre else None
        grad_encoder, grad_decoder = product(grad_codes.T, centred_ND), product(codes_NM.T, grads[0])
        return None, grad_encoder, grad_bias, grad_centre, grad_decoder, None
