"""The expected rate of each latent: Zipf's law over their ranks (Ayonrinde 2024, arXiv 2411.02124).

Legend: N tokens, L d_sae, P kept pairs. A rate is the share of tokens on which a latent is kept.
"""

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from tasks.dictionaries.families.topk_family import KeptDictionary
from tasks.dictionaries.gradient_config import KeptConfig
from tasks.dictionaries.sparse_codes import Pairs
from tasks.dictionaries.training_state import TrainingState

_RAREST_LEFT_OUT = 0.1
"""The tail falls below the power law because counts of rare latents are small."""
_SHIFTS_TRIED = 32
"""A grid of offsets from none to the number of latents; the fit changes slowly between them."""
_STEPS_BETWEEN_FITS = 20
"""Rates are averages over many steps and hardly move in twenty."""


@dataclass(frozen=True)
class ZipfCurve:
    """``rate ~ (rank + shift)^-exponent``, ranks from 1."""

    exponent: float
    shift: float

    def rates(self, n_latents: int, total: float) -> Tensor:
        """Rate of each rank, largest first (float64), adding up to ``total``: (L,)."""
        ranks_L = torch.arange(1, n_latents + 1, dtype=torch.float64)
        weights_L = (ranks_L + self.shift) ** -self.exponent
        return total * weights_L / weights_L.sum()


def fit_zipf(rates_L: Tensor) -> ZipfCurve:
    """Least squares on the logarithms, without the rarest tenth and latents that never fire.

    The shift is the best of a geometric grid up to the number of latents. With fewer than three rates to
    fit, the curve is flat.
    """
    sorted_L = rates_L.double().cpu().sort(descending=True).values
    n_live = int((sorted_L > 0).sum())
    n_fitted = n_live - int(_RAREST_LEFT_OUT * n_live)
    if n_fitted < 3:
        return ZipfCurve(0.0, 0.0)
    y = sorted_L[:n_fitted].log()
    ranks = torch.arange(1, n_fitted + 1, dtype=torch.float64)
    shifts = torch.cat([torch.zeros(1), torch.logspace(-1, 1, _SHIFTS_TRIED - 1, 10) / 10 * len(rates_L)])
    x = (ranks + shifts.double().unsqueeze(1)).log()
    x, y = x - x.mean(dim=1, keepdim=True), y - y.mean()
    slopes = (x @ y) / x.square().sum(dim=1)
    errors = (y - slopes.unsqueeze(1) * x).square().sum(dim=1)
    best = int(errors.argmin())
    return ZipfCurve(max(-float(slopes[best]), 0.0), float(shifts[best]))


def integer_quotas(weights_L: Tensor, total: int, n_tokens: int) -> Tensor:
    """Whole numbers in proportion to ``weights_L`` that add up to ``total``, by largest remainder: (L,).

    None exceeds ``n_tokens``, and each is at least 1 if ``total`` suffices for that. Ties go to the
    earlier latent.

    Raises:
        ValueError: when ``total`` exceeds ``n_tokens`` for every latent.
    """
    n_latents = len(weights_L)
    if total > n_tokens * n_latents:
        raise ValueError(f"{total} pairs do not fit into {n_latents} latents on {n_tokens} tokens")
    least = 1 if total >= n_latents else 0
    weights_L = weights_L.double().cpu().clamp_min(1e-30)
    quotas_L = torch.zeros(n_latents, dtype=torch.int64)
    free_L = torch.ones(n_latents, dtype=torch.bool)
    left = total
    while left:
        shares_L = left * weights_L / weights_L[free_L].sum()
        # Raising one end may push the other over its bound, so only one end is settled at a time.
        settled_L = free_L & (shares_L > n_tokens)
        bound = n_tokens
        if not settled_L.any():
            settled_L, bound = free_L & (shares_L < least), least
        if not settled_L.any():
            break
        quotas_L[settled_L] = bound
        free_L &= ~settled_L
        left = total - int(quotas_L.sum())
    if left:
        quotas_L[free_L] = shares_L[free_L].floor().long()
        remainders_L = torch.where(free_L & (quotas_L < n_tokens), shares_L - quotas_L, -1.0)
        order_L = remainders_L.argsort(descending=True, stable=True)
        quotas_L[order_L[: total - int(quotas_L.sum())]] += 1
    return quotas_L


class ChoiceConfig(KeptConfig):
    """Shared by Mutual Choice and Feature Choice: the definition of too little use."""

    underused_below: float = Field(default=0.5, ge=0, le=1)
    """A latent learns from the residual below this share of the rate that Zipf's law predicts."""
    zipf_exponent: float | None = Field(default=None, ge=0)
    """Exponent of the law; default: it and the shift are fitted to the latents in use."""
    zipf_shift: float = Field(default=0.0, ge=0)
    """Shift added to the rank if the exponent is given."""

    def curve(self, rates_L: Tensor) -> ZipfCurve:
        """The law as given, or as fitted to running rates."""
        if self.zipf_exponent is not None:
            return ZipfCurve(self.zipf_exponent, self.zipf_shift)
        return fit_zipf(rates_L)


class ZipfRevival(KeptDictionary):
    """AuxK not only for dead latents but for all that fire less than Zipf's law predicts for their rank.

    Running rates are means over all tokens seen, later over about the last ``dead_after_tokens``. Every 20
    steps, from ``dead_after_tokens`` on, the underused latents are determined again.
    """

    config: ChoiceConfig

    def observe(self, pairs: Pairs, acts_P: Tensor, state: TrainingState) -> None:
        """Update the rates and determine the underused latents."""
        super().observe(pairs, acts_P, state)
        n_tokens = len(pairs.starts)
        counts_L = torch.bincount(pairs.latents[acts_P > 0], minlength=self.d_sae)
        rates_L = state.memory.get("rates", torch.zeros(self.d_sae, device=counts_L.device))
        window = min(state.n_tokens + n_tokens, max(state.dead_after_tokens, n_tokens))
        rates_L = rates_L + (counts_L / n_tokens - rates_L) * (n_tokens / window)
        state.memory["rates"] = rates_L
        if state.n_tokens >= state.dead_after_tokens and state.step % _STEPS_BETWEEN_FITS == 0:
            state.memory["underused"] = self.underused(rates_L)

    def underused(self, rates_L: Tensor) -> Tensor:
        """Which latents fire less than ``underused_below`` of the rate of their rank: (L,) bool."""
        order_L = rates_L.argsort(descending=True, stable=True)
        law_L = self.config.curve(rates_L).rates(self.d_sae, float(rates_L.sum())).to(rates_L.device)
        result_L = torch.zeros(self.d_sae, dtype=torch.bool, device=rates_L.device)
        result_L[order_L] = rates_L[order_L] < self.config.underused_below * law_L
        return result_L

    def revived(self, state: TrainingState) -> Tensor:
        """The underused and the dead latents."""
        underused_L = state.memory.get("underused")
        return state.dead if underused_L is None else state.dead | underused_L
