"""Reconstruction and sparsity of a dictionary, pooled over an evaluation set.

Legend: N tokens, D d_in, L d_sae, K kept per token. All sums are float64. Definitions, where x is the target,
which is the input except for transcoders:

- ``fvu`` = sum_N sum_D e^2 / sum_N sum_D (x - mean x)^2, with the mean of the evaluation set. With several
  written hookpoints, one value for all together and one for each, whose variant is its name.
- ``fvu`` ``latents_zero`` = FVU of what reaches the output without the latents (a linear skip path, or the
  prediction from earlier tokens); ``skip_share`` = the share of the variance that it explains together with
  the best constant, because latents have a mean effect too.
- ``sse_per_token`` = mean_N sum_D e^2; ``mse`` = sse_per_token / D.
- ``cosine`` = mean_N cos(x, recon); ``l2_ratio`` = mean_N |recon| / |x|.
- ``shrinkage`` = E|recon|^2 / E[recon . x]: 1 is unbiased, below 1 shrunk (Rajamanoharan et al. 2024,
  arXiv 2404.16014, there called relative reconstruction bias).
- each of these also as variant ``without_massive`` if the set has tokens of massive norm
  (`tasks.activations.caching.massive`), because one such token can hold half of the variance.
- ``l0`` = active latents per token; ``density`` of a latent = share of tokens on which it is active;
  ``unseen_share`` = share of latents never active; ``dense_share`` = share with density above 0.1.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.common.bootstrap import (
    FEWEST_DOCUMENTS,
    Interval,
    document_draws,
    interval_of,
    ratio_interval,
)
from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.document_table import DocumentTable

VERSION = 1
WITHOUT_MASSIVE = "without_massive"
"""Variant of a metric over the tokens without those of massive norm."""
DENSE = 0.1
"""The usual bound of "dense" latents; it fires on one token in ten."""
_QUANTILES = {"p05": 0.05, "median": 0.5, "p95": 0.95}


class MetricName(NamedTuple):
    """A metric and its variant; the variant is empty if there is only one form."""

    metric: str
    variant: str = ""


Values = dict[MetricName, float | None]


Intervals = dict[MetricName, Interval]


@dataclass
class ReconstructionSums:
    """Running sums over tokens, by document; ``values`` gives the metrics of all tokens added."""

    table: DocumentTable = field(default_factory=DocumentTable)
    origin: Tensor | None = None
    """Mean of the first batch: squares are relative to it, so that a large mean costs no digits."""

    def add(self, x_ND: Tensor, recon_ND: Tensor, document_N: NDArray[Any] | None = None) -> None:
        """Add a batch of targets and reconstructions; without documents it is all one document."""
        x, recon = x_ND.detach().double().cpu(), recon_ND.detach().double().cpu()
        if self.origin is None:
            self.origin = x.mean(dim=0)
        norm_N, recon_norm_N = x.norm(dim=1), recon.norm(dim=1)
        product_N = (x * recon).sum(dim=1)
        centred = x - self.origin
        columns = (
            torch.ones_like(norm_N),
            (x - recon).square().sum(dim=1),
            centred.square().sum(dim=1),
            recon.square().sum(dim=1),
            product_N,
            product_N / (norm_N * recon_norm_N).clamp_min(1e-30),
            recon_norm_N / norm_N.clamp_min(1e-30),
        )
        self.table.add(torch.stack(columns, dim=1), centred, document_N)

    @property
    def n(self) -> int:
        """Tokens added."""
        return int(self.table.sums_GC[:, :1].sum())

    @property
    def sse(self) -> float:
        """Sum of squared errors."""
        return float(self.table.sums_GC[:, 1].sum())

    def values(self) -> Values:
        """The metrics; None if a denominator is zero."""
        found = self._metrics(np.ones((1, self.table.n_documents)))
        return {
            name: float(value_R[0]) if np.isfinite(value_R[0]) else None for name, value_R in found.items()
        }

    def intervals(self) -> Intervals:
        """Their intervals by resampling documents."""
        n_documents = self.table.n_documents
        if n_documents < FEWEST_DOCUMENTS:
            return dict.fromkeys(self.values(), Interval(None, None, n_documents))
        found = self._metrics(document_draws(n_documents))
        return {name: interval_of(value_R, n_documents) for name, value_R in found.items()}

    def _metrics(self, weight_RG: NDArray[np.float64]) -> dict[MetricName, NDArray[np.float64]]:
        """The metrics with a weight per document; NaN if a denominator is zero."""
        sums = weight_RG @ self.table.sums_GC
        n, sse, squares, recon_squares, products, cosines, ratios = (sums[:, c] for c in range(7))
        variance = squares - np.square(weight_RG @ self.table.totals_GD).sum(axis=1) / n
        return {
            MetricName("fvu"): _ratios(sse, variance),
            MetricName("sse_per_token"): sse / n,
            MetricName("mse"): sse / n / self.table.totals_GD.shape[1],
            MetricName("cosine"): cosines / n,
            MetricName("l2_ratio"): ratios / n,
            MetricName("shrinkage"): _ratios(recon_squares, products),
        }


@dataclass
class SkipSums:
    """The part that a linear skip path explains when every latent is zero."""

    sums: ReconstructionSums = field(default_factory=ReconstructionSums)
    error: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.float64))

    def add(self, y_NE: Tensor, recon_NE: Tensor, document_N: NDArray[Any] | None = None) -> None:
        """Add a batch of targets and their reconstruction by only the skip path."""
        self.sums.add(y_NE, recon_NE, document_N)
        self.error = self.error + (y_NE - recon_NE).double().cpu().sum(dim=0)

    def values(self) -> Values:
        """The two metrics; None if the targets do not vary."""
        fvu = self.sums.values()[MetricName("fvu")]
        constant = float(self.error.square().sum()) / self.sums.n / max(self.sums.sse, 1e-30)
        share = None if fvu is None else 1 - fvu * (1 - constant)
        return {MetricName("fvu", "latents_zero"): fvu, MetricName("skip_share"): share}

    def intervals(self) -> Intervals:
        """The interval of the first one."""
        return {MetricName("fvu", "latents_zero"): self.sums.intervals()[MetricName("fvu")]}


@dataclass
class SparsitySums:
    """Firing counts of every latent and the number of active latents of every token."""

    d_sae: int
    firing: Tensor = field(init=False)
    l0_counts: Tensor = field(init=False)
    table: DocumentTable = field(default_factory=DocumentTable)

    def __post_init__(self) -> None:
        self.firing = torch.zeros(self.d_sae, dtype=torch.int64)
        self.l0_counts = torch.zeros(self.d_sae + 1, dtype=torch.int64)

    def add(self, values_NK: Tensor, indices_NK: Tensor, document_N: NDArray[Any] | None = None) -> None:
        """Add the sparse codes of a batch."""
        active_NK = values_NK > 0
        l0_N = active_NK.sum(dim=1).cpu()
        self.firing += torch.bincount(indices_NK[active_NK].cpu(), minlength=self.d_sae)
        self.l0_counts += torch.bincount(l0_N, minlength=self.d_sae + 1)
        columns_NC = torch.stack([torch.ones(len(l0_N)), l0_N.float()], dim=1).double()
        self.table.add(columns_NC, columns_NC[:, :0], document_N)

    def intervals(self) -> Intervals:
        """Intervals of the means; quantiles and shares of latents have none."""
        n_G, active_G = self.table.sums_GC.T
        return {
            MetricName("l0"): ratio_interval(active_G, n_G),
            MetricName("density", "mean"): ratio_interval(active_G / self.d_sae, n_G),
        }

    @property
    def n(self) -> int:
        """Tokens added."""
        return int(self.l0_counts.sum())

    @property
    def l0(self) -> float:
        """Mean number of active latents per token."""
        return float(self.firing.sum()) / self.n

    def values(self) -> Values:
        """The metrics of all tokens added."""
        density_L = self.firing.double() / self.n
        cumulative = self.l0_counts.cumsum(0).double() / self.n
        l0_quantiles: Values = {
            MetricName("l0", name): float((cumulative < q).sum()) for name, q in _QUANTILES.items()
        }
        densities: Values = {
            MetricName("density", name): float(torch.quantile(density_L, q)) for name, q in _QUANTILES.items()
        }
        return {
            MetricName("l0"): self.l0,
            **l0_quantiles,
            MetricName("density", "mean"): float(density_L.mean()),
            **densities,
            MetricName("unseen_share"): float((self.firing == 0).double().mean()),
            MetricName("dense_share"): float((density_L > DENSE).double().mean()),
        }


@torch.no_grad()
def decoder_geometry(dictionary: Dictionary) -> Values:
    """Geometry of the directions: norms, encoder-decoder cosine, and the cosine of the nearest neighbour.

    Encoder and decoder are compared if the input is reconstructed.
    """
    W_dec, W_enc = dictionary.W_dec.detach().float(), dictionary.W_enc.detach().float()
    norms_L = W_dec.norm(dim=1)
    unit_LE = W_dec / norms_L.clamp_min(1e-12).unsqueeze(1)
    nearest_L = nearest_cosine(unit_LE)
    cosine: Values = {}
    if dictionary.reconstructs_input:
        encoder_LD = W_enc.T / W_enc.norm(dim=0).clamp_min(1e-12).unsqueeze(1)
        cosine[MetricName("encoder_decoder_cosine", "mean")] = float((unit_LE * encoder_LD).sum(dim=1).mean())
    return {
        MetricName("decoder_norm", "mean"): float(norms_L.mean()),
        **cosine,
        MetricName("nearest_decoder_cosine", "mean"): float(nearest_L.mean()),
        MetricName("nearest_decoder_cosine", "p95"): float(torch.quantile(nearest_L, 0.95)),
    }


def nearest_cosine(unit_LD: Tensor, block: int = 2048) -> Tensor:
    """For each unit row the largest cosine with another row: (L,); blocked, memory flat in L."""
    if len(unit_LD) == 1:
        return unit_LD.new_zeros(1)
    nearest = []
    for start in range(0, len(unit_LD), block):
        cosines = unit_LD[start : start + block] @ unit_LD.T
        rows = torch.arange(len(cosines))
        cosines[rows, rows + start] = -torch.inf
        nearest.append(cosines.amax(dim=1))
    return torch.cat(nearest)


def _ratios(numerator_R: NDArray[np.float64], denominator_R: NDArray[np.float64]) -> NDArray[np.float64]:
    positive_R = denominator_R > 0
    return np.where(positive_R, numerator_R / np.where(positive_R, denominator_R, 1.0), np.nan)
