"""AuxK: dead latents learn to reconstruct what the living leave over (Gao et al. 2024, arXiv 2406.04093)."""

from torch import Tensor

from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.sparse import Pairs, pairs_per_token, selected_acts, top_per_token


def aux_ratio(residual_ND: Tensor, aux_recon_ND: Tensor) -> Tensor:
    """Squared error of the residual's reconstruction over the residual's variance in the batch.

    ``mean_N sum_D (e - e_hat)^2 / mean_N sum_D (e - mean_N e)^2``; 0 where the residual is constant.
    """
    centred_ND = residual_ND - residual_ND.mean(dim=0)
    variance = centred_ND.square().sum()
    ratio = (residual_ND - aux_recon_ND).square().sum() / variance.clamp_min(1e-30)
    return ratio * (variance > 1e-30)


def aux_loss(
    dictionary: Dictionary,
    centred_ND: Tensor,
    residual_NE: Tensor,
    pre_NL: Tensor,
    dead_L: Tensor,
    k_aux: int,
) -> Tensor:
    """AuxK of one batch, or 0 without dead latents; ``residual_NE`` is ``y - recon`` without its graph.

    Of each token the ``k_aux`` dead latents with the largest positive pre-activations are used. A dead
    latent that is negative everywhere gets no gradient here either.
    """
    dead = dead_L.nonzero().squeeze(1)
    if len(dead) == 0:
        return residual_NE.new_zeros(())
    values_NK, positions_NK = top_per_token(pre_NL[:, dead], min(k_aux, len(dead)))
    pairs = _positive(values_NK, pairs_per_token(dead[positions_NK], dictionary.d_sae))
    centre = dictionary.centre()
    acts_P = selected_acts(centred_ND, dictionary.W_enc, dictionary.b_enc, centre, pre_NL, pairs)
    return aux_ratio(residual_NE, pairs.decode(acts_P, dictionary.W_dec))


def _positive(values_NK: Tensor, pairs: Pairs) -> Pairs:
    """Only the pairs with a positive value."""
    keep_NK = values_NK > 0
    counts_N = keep_NK.sum(dim=1)
    keep_P = keep_NK.reshape(-1)
    return Pairs(pairs.tokens[keep_P], pairs.latents[keep_P], counts_N.cumsum(0) - counts_N, pairs.n_latents)
