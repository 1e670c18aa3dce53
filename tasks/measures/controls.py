"""Controls of equal k that a dictionary must beat: the best linear map of rank k, an untrained dictionary.

If the input is reconstructed, the best linear map of rank k is PCA (``pca``). If another hookpoint is
written, it is the reduced-rank regression of the target on the input (``linear``).

Legend: N tokens, D d_in, E d_out, L d_sae.
"""

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from tasks.dictionaries.base import Dictionary, build_dictionary, dictionary_config
from tasks.dictionaries.metrics import Values
from tasks.dictionaries.widths import Widths
from tasks.measures.clean_runs import CleanRuns
from tasks.measures.fidelity_sums import Fidelity
from tasks.measures.metric_rows import control_values

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


@dataclass(frozen=True)
class RankMap:
    """The linear map of rank k from inputs to targets with the least squared error on the train tokens."""

    mean_in: Tensor
    mean_out: Tensor
    down: Tensor
    """(D, k)."""
    up: Tensor
    """(k, E), orthonormal rows."""

    def __call__(self, x_ND: Tensor) -> Tensor:
        """Predicted targets (N, E)."""
        return (x_ND - self.mean_in.to(x_ND)) @ self.down.to(x_ND) @ self.up.to(x_ND) + self.mean_out.to(x_ND)


@dataclass(frozen=True)
class Controls:
    """Both controls at the realised k, and the means of inputs and targets of the train tokens."""

    k: int
    linear: Pca | RankMap
    random: Dictionary
    mean_input: Tensor
    mean_target: Tensor
    measured: dict[str, Values] = field(default_factory=dict)
    """Metrics of the controls, ``linear`` and ``random``, once they are known."""
    fidelity: dict[str, Fidelity] = field(default_factory=dict)
    """Results of replacing by the controls and ablating, by the hookpoint replaced if there are several."""
    ablated: dict[str, Fidelity] = field(default_factory=dict)
    """Results of ablating, likewise: equal for every k, so controls of one hookpoint share one of these."""
    clean: CleanRuns = field(default_factory=partial(CleanRuns, most_bytes=0))
    """Unmodified runs of the hookpoint, if dictionaries share them."""

    @property
    def linear_name(self) -> str:
        """``pca`` or ``linear``."""
        return "pca" if isinstance(self.linear, Pca) else "linear"

    def values(self, linear: float | None, random: float | None) -> dict[str, float] | None:
        """A metric of the controls in the form of the column ``control``."""
        return control_values(self.k, **{self.linear_name: linear, "random": random})


def fit_controls(
    x_ND: Tensor, y_NE: Tensor, k: int, d_sae: int, seed: int, *, reconstructs: bool
) -> Controls:
    """Fit both on train tokens; ``reconstructs`` says that the targets are the inputs."""
    mean_D = x_ND.mean(dim=0)
    if reconstructs:
        return Controls(k, fit_pca(x_ND, k), fit_random(x_ND, k, d_sae, seed), mean_D, mean_D)
    random = fit_random_transcoder(x_ND, y_NE, k, d_sae, seed)
    return Controls(k, fit_rank_map(x_ND, y_NE, k), random, mean_D, y_NE.mean(dim=0))


def fit_rank_map(x_ND: Tensor, y_NE: Tensor, k: int, ridge: float = 1e-6) -> RankMap:
    """Reduced-rank regression (Izenman 1975): least squares, then the k main components of what it predicts.

    ``ridge`` is relative to the mean variance of the inputs. Moments and solutions are float64.
    """
    mean_in, mean_out = (values.mean(dim=0, dtype=torch.float64) for values in (x_ND, y_NE))
    inputs_DD = torch.zeros(x_ND.shape[1], x_ND.shape[1], dtype=torch.float64)
    both_DE = torch.zeros(x_ND.shape[1], y_NE.shape[1], dtype=torch.float64)
    for x, y in zip(torch.split(x_ND, _BATCH), torch.split(y_NE, _BATCH), strict=True):
        centred_ND = x - mean_in
        inputs_DD += centred_ND.T @ centred_ND
        both_DE += centred_ND.T @ (y - mean_out)
    inputs_DD.diagonal().add_(ridge * inputs_DD.diagonal().mean())
    map_DE = torch.linalg.solve(inputs_DD, both_DE)
    _, vectors = torch.linalg.eigh(map_DE.T @ inputs_DD @ map_DE)
    up_Ek = vectors.flip(1)[:, :k]
    down_Dk = map_DE @ up_Ek
    return RankMap(mean_in.float(), mean_out.float(), down_Dk.float(), up_Ek.T.float())


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
    """Random unit directions, keeping the k largest products, with the scale that fits train tokens best.

    The mean of the train tokens is its b_dec, and one least-squares factor on the decoder corrects for the
    overlap of the directions: the best untrained dictionary.
    """
    options = {"architecture": "topk", "k": min(k, d_sae), "d_sae": d_sae, "n_tokens": 1}
    config = dictionary_config({**options, "seed": _unrelated(seed)})
    dictionary = build_dictionary(config, x_ND.shape[1])
    dictionary.b_dec.copy_(x_ND.mean(dim=0))
    return _scaled_to_fit(dictionary, x_ND, x_ND)


@torch.no_grad()
def fit_random_transcoder(x_ND: Tensor, y_NE: Tensor, k: int, d_sae: int, seed: int) -> Dictionary:
    """Random unit encoders of centred inputs, keeping the k largest, each with its best direction.

    Row i of the decoder is the least-squares fit of the target's deviation from its mean by only latent i,
    and one factor for all corrects for their overlap: the best untrained transcoder.
    """
    hookpoints = {"reads": ["module:source"], "writes": ["module:target"]}
    config = dictionary_config(
        {"architecture": "topk_transcoder", "k": min(k, d_sae), "d_sae": d_sae, "n_tokens": 1}
        | hookpoints
        | {"seed": _unrelated(seed)}
    )
    widths = Widths((x_ND.shape[1],), (y_NE.shape[1],))
    dictionary = build_dictionary(config, widths)
    dictionary.b_dec.copy_(y_NE.mean(dim=0))
    dictionary.b_enc.copy_(-x_ND.mean(dim=0) @ dictionary.W_enc)
    dictionary.W_dec.zero_()
    squares_L = torch.zeros(d_sae)
    for x, y in zip(torch.split(x_ND, _BATCH), torch.split(y_NE, _BATCH), strict=True):
        acts_NL = dictionary.encode(x)
        dictionary.W_dec.add_(acts_NL.T @ (y - dictionary.b_dec))
        squares_L += acts_NL.square().sum(dim=0)
    dictionary.W_dec.div_(squares_L.clamp_min(1e-12).unsqueeze(1))
    return _scaled_to_fit(dictionary, x_ND, y_NE)


def _unrelated(seed: int) -> int:
    """A seed that no training uses: the seed of a training would give that training's initial directions."""
    return 2**31 - 1 - seed


def _scaled_to_fit(dictionary: Dictionary, x_ND: Tensor, y_NE: Tensor) -> Dictionary:
    """The dictionary with its decoder times the factor that fits the targets best, ready to encode."""
    products = squares = 0.0
    step = max(len(x_ND) // _SCALE_TOKENS, 1)
    for x, y in zip(torch.split(x_ND[::step], _BATCH), torch.split(y_NE[::step], _BATCH), strict=True):
        recon_NE = dictionary.decode_sparse(*dictionary.encode_sparse(x), x) - dictionary.b_dec
        products += float(((y - dictionary.b_dec) * recon_NE).sum())
        squares += float(recon_NE.square().sum())
    dictionary.W_dec.mul_(products / squares if squares > 0 else 1.0)
    return dictionary.eval().requires_grad_(False)
