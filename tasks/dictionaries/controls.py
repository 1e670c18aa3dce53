"""What a dictionary has to beat at equal k: PCA with k components, and k random directions of d_sae.

Legend: N tokens, D d_in, L d_sae.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.dictionaries.base import Dictionary, build_dictionary, dictionary_config

_BATCH = 4096
_SCALE_TOKENS = 16_384


@dataclass(frozen=True)
class Pca:
    """Projection on the first principal components of the train tokens."""

    mean: Tensor
    components: Tensor
    """(D, k), orthonormal columns."""

    def __call__(self, x_ND: Tensor) -> Tensor:
        """Reconstruction (N, D)."""
        components = self.components.to(x_ND)
        mean = self.mean.to(x_ND)
        return (x_ND - mean) @ components @ components.T + mean


def fit_pca(x_ND: Tensor, k: int) -> Pca:
    """PCA of train tokens with ``min(k, D)`` components; covariance and eigenvectors in float64."""
    mean_D = x_ND.mean(dim=0, dtype=torch.float64)
    covariance_DD = torch.zeros(x_ND.shape[1], x_ND.shape[1], dtype=torch.float64)
    for batch_ND in torch.split(x_ND, _BATCH):
        centred_ND = batch_ND - mean_D
        covariance_DD += centred_ND.T @ centred_ND
    _, vectors = torch.linalg.eigh(covariance_DD)
    return Pca(mean_D.float(), vectors.flip(1)[:, :k].float())


@torch.no_grad()
def fit_random(x_ND: Tensor, k: int, d_sae: int, seed: int) -> Dictionary:
    """Random unit directions, the k largest products kept, with the scale that fits train tokens best.

    The mean of the train tokens is its b_dec, and one least-squares factor on the decoder makes up for
    the overlap of the directions: an untrained dictionary at its best.
    """
    config = dictionary_config(
        {"architecture": "topk", "k": min(k, d_sae), "d_sae": d_sae, "seed": seed, "n_tokens": 1}
    )
    dictionary = build_dictionary(config, x_ND.shape[1])
    dictionary.b_dec.copy_(x_ND.mean(dim=0))
    products = squares = 0.0
    step = max(len(x_ND) // _SCALE_TOKENS, 1)
    for batch_ND in torch.split(x_ND[::step], _BATCH):
        target_ND = batch_ND - dictionary.b_dec
        recon_ND = dictionary.decode_sparse(*dictionary.encode_sparse(batch_ND), batch_ND) - dictionary.b_dec
        products += float((target_ND * recon_ND).sum())
        squares += float(recon_ND.square().sum())
    dictionary.W_dec.mul_(products / squares if squares > 0 else 1.0)
    return dictionary.eval().requires_grad_(False)
