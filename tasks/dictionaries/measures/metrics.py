"""What a dictionary keeps and how sparse it is, pooled over a whole evaluation set.

Legend: N tokens, D d_in, L d_sae, K kept per token. All sums are float64. Definitions, x being the target,
which is the input except for transcoders:

- ``fvu`` = sum_N sum_D e^2 / sum_N sum_D (x - mean x)^2, the mean being that of the evaluation set. Where
  several hookpoints are written, once for all together and once for each, the variant being its name.
- ``fvu`` ``latents_zero`` = FVU of what reaches the output past the latents (a linear skip path, or what the
  tokens before predict) without them; ``skip_share`` = the share of the variance that it explains beside the
  constant that suits it best, for latents have a mean effect too.
- ``sse_per_token`` = mean_N sum_D e^2; ``mse`` = sse_per_token / D.
- ``cosine`` = mean_N cos(x, recon); ``l2_ratio`` = mean_N |recon| / |x|.
- ``shrinkage`` = E|recon|^2 / E[recon . x]: 1 is unbiased, below 1 shrunk (Rajamanoharan et al. 2024,
  arXiv 2404.16014, there called relative reconstruction bias).
- ``l0`` = active latents per token; ``density`` of a latent = share of tokens on which it is active;
  ``unseen_share`` = share of latents never active; ``dense_share`` = share with density above 0.1.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from tasks.dictionaries.base import Dictionary

VERSION = 1
DENSE = 0.1
_QUANTILES = {"p05": 0.05, "median": 0.5, "p95": 0.95}


class MetricName(NamedTuple):
    """A metric and its variant; the variant is empty where there is one form only."""

    metric: str
    variant: str = ""


Values = dict[MetricName, float | None]


@dataclass
class ReconstructionSums:
    """Running sums over tokens; ``values`` gives the metrics of all tokens added."""

    n: int = 0
    sse: float = 0.0
    squares: float = 0.0
    recon_squares: float = 0.0
    products: float = 0.0
    cosines: float = 0.0
    ratios: float = 0.0
    total: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.float64))

    def add(self, x_ND: Tensor, recon_ND: Tensor) -> None:
        """Add a batch of targets and reconstructions."""
        x, recon = x_ND.double().cpu(), recon_ND.double().cpu()
        norm_N, recon_norm_N = x.norm(dim=1), recon.norm(dim=1)
        product_N = (x * recon).sum(dim=1)
        self.n += len(x)
        self.total = self.total + x.sum(dim=0)
        self.sse += float((x - recon).square().sum())
        self.squares += float(x.square().sum())
        self.recon_squares += float(recon.square().sum())
        self.products += float(product_N.sum())
        self.cosines += float((product_N / (norm_N * recon_norm_N).clamp_min(1e-30)).sum())
        self.ratios += float((recon_norm_N / norm_N.clamp_min(1e-30)).sum())

    def values(self) -> Values:
        """The metrics; None where a denominator is zero."""
        variance = self.squares - float(self.total.square().sum()) / self.n
        return {
            MetricName("fvu"): _ratio(self.sse, variance),
            MetricName("sse_per_token"): self.sse / self.n,
            MetricName("mse"): self.sse / self.n / self.total.numel(),
            MetricName("cosine"): self.cosines / self.n,
            MetricName("l2_ratio"): self.ratios / self.n,
            MetricName("shrinkage"): _ratio(self.recon_squares, self.products),
        }


@dataclass
class SkipSums:
    """What a linear skip path explains when every latent is zero."""

    sums: ReconstructionSums = field(default_factory=ReconstructionSums)
    error: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.float64))

    def add(self, x_ND: Tensor, recon_ND: Tensor) -> None:
        """Add a batch of targets and what the skip path alone makes of them."""
        self.sums.add(x_ND, recon_ND)
        self.error = self.error + (x_ND - recon_ND).double().cpu().sum(dim=0)

    def values(self) -> Values:
        """The two metrics; None where the targets do not vary."""
        fvu = self.sums.values()[MetricName("fvu")]
        constant = float(self.error.square().sum()) / self.sums.n / max(self.sums.sse, 1e-30)
        share = None if fvu is None else 1 - fvu * (1 - constant)
        return {MetricName("fvu", "latents_zero"): fvu, MetricName("skip_share"): share}


@dataclass
class SparsitySums:
    """Firing counts of every latent and the number of active latents of every token."""

    d_sae: int
    firing: Tensor = field(init=False)
    l0_counts: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.firing = torch.zeros(self.d_sae, dtype=torch.int64)
        self.l0_counts = torch.zeros(self.d_sae + 1, dtype=torch.int64)

    def add(self, values_NK: Tensor, indices_NK: Tensor) -> None:
        """Add the sparse codes of a batch."""
        active_NK = values_NK > 0
        self.firing += torch.bincount(indices_NK[active_NK].cpu(), minlength=self.d_sae)
        self.l0_counts += torch.bincount(active_NK.sum(dim=1).cpu(), minlength=self.d_sae + 1)

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
    """How the directions lie: norms, encoder-decoder cosine, and the cosine of the nearest neighbour.

    Encoder and decoder are compared where the input is reconstructed.
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


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator > 0 else None
