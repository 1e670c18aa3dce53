"""How often latents fire: a histogram of log10 density.

Bins are half decades from 1e-6 to 1; a latent without a single active token counts as unseen, and one rarer
than the first bin falls into it.
"""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field

from tasks.common.progress import ProgressListener, silent
from tasks.dictionaries.base import Dictionary
from tasks.evaluation.suite import SUITES, Metric, Subject, Suite, SuiteConfig
from tasks.evaluation.tokens import encoded, fit_controls, token_batches

METRIC = "density_spectrum"
EDGES = tuple(-6 + step / 2 for step in range(13))


class DensitySpectrumConfig(SuiteConfig):
    """The histogram of densities on eval documents."""

    suite: Literal["density_spectrum"] = "density_spectrum"
    max_tokens: int = Field(default=500_000, ge=1)
    """At most so many eval tokens are read."""


@SUITES.register("density_spectrum")
class DensitySpectrum(Suite):
    """Share of the latents in every bin, beside a random dictionary of the same width and k."""

    Config: ClassVar[type[SuiteConfig]] = DensitySpectrumConfig
    config: DensitySpectrumConfig

    def headline(self) -> tuple[tuple[str, str], ...]:
        return ((METRIC, "unseen"),)

    def measure(self, subject: Subject, listener: ProgressListener = silent) -> list[Metric]:
        random = fit_controls(subject.dictionary, subject.activations, self.config.seed).random
        own, n = self._spectrum(subject, subject.dictionary)
        null, _ = self._spectrum(subject, random)
        return [Metric(METRIC, bin_, share, n, {"random": null[bin_]}) for bin_, share in own.items()]

    def _spectrum(self, subject: Subject, dictionary: Dictionary) -> tuple[dict[str, float], int]:
        firing_L, n = torch.zeros(dictionary.d_sae, dtype=torch.int64), 0
        for batch in token_batches(subject.activations, "eval", self.config.max_tokens, dictionary.d_sae):
            firing_L += (encoded(dictionary, batch.seen_NW) > 0).sum(dim=0)
            n += len(batch.x_ND)
        return spectrum(firing_L, n), n


def spectrum(firing_L: torch.Tensor, n_tokens: int) -> dict[str, float]:
    """Share of latents by bin, ``unseen`` and ``log10 -6.0`` (the lower edge) to ``log10 -0.5``; sums to 1.

    Args:
        firing_L: Tokens on which each latent was active.
        n_tokens: All tokens.
    """
    counts = {"unseen": int((firing_L == 0).sum())} | {bin_name(edge): 0 for edge in EDGES[:-1]}
    for fired in firing_L[firing_L > 0].tolist():
        step = math.floor((math.log10(fired / n_tokens) - EDGES[0]) * 2 + 1e-9)
        counts[bin_name(EDGES[min(max(step, 0), len(EDGES) - 2)])] += 1
    return {name: count / len(firing_L) for name, count in counts.items()}


def bin_name(edge: float) -> str:
    """Name of the bin that begins at ``edge``."""
    return f"log10 {edge:.1f}"
