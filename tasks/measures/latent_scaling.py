"""Latent scaling: whether a latent of a crosscoder really belongs to one model only.

Minder et al. 2025, arXiv 2504.02922.

For latent j with the direction d of the last hookpoint and activations f, ``beta(Y)`` is the factor with
which ``f d`` explains the targets Y best:

    beta(Y) = argmin sum_N |beta f d - y|^2 = sum_N f (y . d) / (|d|^2 sum_N f^2)

Targets of a hookpoint m are the error with j's own part put back, ``a^m - (recon^m - f d^m)``, and the
reconstruction ``recon^m``. The ratio of beta at the first hookpoint to that at the last is near 1 if the
first one has the direction too: in its error (``error_ratio``; the L1 penalty shrank its decoder away) or
in what other latents reconstruct (``reconstruction_ratio``). Both are low for a latent of only the last
one.

Legend: N tokens, D d_in, L d_sae. Activations are in comparable units (see ``several_hookpoints``).
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from tasks.dictionaries.families.crosscoder_family import Crosscoding
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.measures.evaluation import eval_batches

MAX_TOKENS = 200_000
"""A latent with a density of 0.01 % still fires on about twenty of them."""


def best_factor(products: Tensor, squares: Tensor, direction_squared: Tensor) -> Tensor:
    """``sum f (y . d) / (|d|^2 sum f^2)``; NaN if the latent never fires or has no direction."""
    norm = direction_squared * squares
    return torch.where(norm > 0, products / norm.clamp_min(1e-30), torch.nan)


@dataclass
class _HookpointSums:
    """Sums over tokens of ``f (e . d)`` and ``f (recon . d)`` at one hookpoint: (L,) each."""

    errors: Tensor
    recons: Tensor


@dataclass
class _Sums:
    d_sae: int
    first: _HookpointSums = field(init=False)
    last: _HookpointSums = field(init=False)
    squares: Tensor = field(init=False)

    def __post_init__(self) -> None:
        def zeros() -> Tensor:
            return torch.zeros(self.d_sae, dtype=torch.float64)

        self.first, self.last = _HookpointSums(zeros(), zeros()), _HookpointSums(zeros(), zeros())
        self.squares = zeros()


@torch.no_grad()
def latent_scaling(
    dictionary: Crosscoding, activations: HookpointActivations, max_tokens: int = MAX_TOKENS
) -> dict[str, list[float | None]]:
    """Columns ``error_ratio`` and ``reconstruction_ratio`` of ``features``, first over last hookpoint.

    Measured on eval tokens. Null if a latent never fires there, or if beta at the last hookpoint is not
    positive, so that a ratio is meaningless. Empty for hookpoints of unequal widths.
    """
    first_LD, *_, last_LD = (part.double() for part in dictionary.hookpoint_directions())
    if first_LD.shape != last_LD.shape:
        return {}
    scales = dictionary.site_scales.double()
    first_LD, last_LD = first_LD * scales[0], last_LD * scales[-1]
    sums = _Sums(dictionary.d_sae)
    for batch_NW in eval_batches(activations, max_tokens, dictionary.d_sae):
        x_ND, y_NE = activations.split(batch_NW.to(dictionary.W_dec.device))
        _add(sums, dictionary, x_ND, y_NE, last_LD)
    squared_L = last_LD.square().sum(dim=1).cpu()
    own_first_L = (first_LD * last_LD).sum(dim=1).cpu() * sums.squares
    own_last_L = squared_L * sums.squares
    pairs = {
        "error_ratio": (sums.first.errors + own_first_L, sums.last.errors + own_last_L),
        "reconstruction_ratio": (sums.first.recons, sums.last.recons),
    }
    return {
        name: _ratios(*(best_factor(product, sums.squares, squared_L) for product in products))
        for name, products in pairs.items()
    }


def _add(sums: _Sums, dictionary: Crosscoding, x_ND: Tensor, y_NE: Tensor, last_LD: Tensor) -> None:
    acts_NL = dictionary.encode(x_ND)
    recon_NE = dictionary.decode(acts_NL, x_ND)
    acts_NL = acts_NL.double()
    widths = list(dictionary.widths.writes)
    targets, recons = torch.split(y_NE, widths, dim=1), torch.split(recon_NE, widths, dim=1)
    for number, one in ((0, sums.first), (-1, sums.last)):
        scale = dictionary.site_scales[number]
        error_ND, recon_ND = ((targets[number] - recons[number]) * scale), recons[number] * scale
        one.errors += ((error_ND.double() @ last_LD.T) * acts_NL).sum(dim=0).cpu()
        one.recons += ((recon_ND.double() @ last_LD.T) * acts_NL).sum(dim=0).cpu()
    sums.squares += acts_NL.square().sum(dim=0).cpu()


def _ratios(first_L: Tensor, last_L: Tensor) -> list[float | None]:
    ratio_L = torch.where(last_L > 0, first_L / last_L, torch.nan)
    return [float(ratio) if ratio.isfinite() else None for ratio in ratio_L]
