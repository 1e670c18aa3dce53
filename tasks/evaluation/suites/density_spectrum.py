"""Firing rates of latents: a histogram of log10 density.

Bins are half decades from 1e-6 to 1. A latent without any active token counts as unseen; a latent below the
first bin counts in it.

Intervals are over documents. Resampled documents leave others out, so a latent that fires in few of them
leaves its bin or is not seen at all. ``unseen`` therefore has no interval, and neither has a bin whose
interval this bias moves off its value.

Shapes: N tokens, G documents, L latents, R replicates, B bins.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import sparse

from tasks.common.bootstrap import FEWEST_DOCUMENTS, Floats, Interval, draw_blocks, ends
from tasks.common.progress import ProgressListener, silent
from tasks.dictionaries.base import Dictionary
from tasks.evaluation.suite import SUITES, Metric, Subject, Suite, SuiteConfig
from tasks.evaluation.tokens import document_of, encoded, fit_controls, token_batches

METRIC = "density_spectrum"
UNSEEN = "unseen"
EDGES = tuple(-6 + step / 2 for step in range(13))
BINS = (UNSEEN, *(f"log10 {edge:.1f}" for edge in EDGES[:-1]))


class DensitySpectrumConfig(SuiteConfig):
    """The histogram of densities on eval documents."""

    suite: Literal["density_spectrum"] = "density_spectrum"
    max_tokens: int = Field(default=500_000, ge=1)
    """Maximum number of eval tokens to read."""


@SUITES.register("density_spectrum")
class DensitySpectrum(Suite):
    """Share of the latents in every bin, with a random dictionary of the same width and k as control."""

    purpose = "counts how often latents fire, as a histogram of log10 density"
    config: DensitySpectrumConfig

    def headline(self) -> tuple[tuple[str, str], ...]:
        return ((METRIC, UNSEEN),)

    def measure(self, subject: Subject, listener: ProgressListener = silent) -> list[Metric]:
        random = fit_controls(subject.dictionary, subject.activations, self.config.seed, listener).random
        own = self._firing(subject, subject.dictionary, listener)
        null = self._firing(subject, random, listener).spectrum()
        intervals = own.intervals()
        return [
            Metric(METRIC, bin_, share, own.n_tokens, {"random": null[bin_]}, interval=intervals[bin_])
            for bin_, share in own.spectrum().items()
        ]

    def _firing(self, subject: Subject, dictionary: Dictionary, listener: ProgressListener) -> "Firing":
        parts = []
        for batch in token_batches(
            subject.activations, "eval", self.config.max_tokens, dictionary.d_sae, listener
        ):
            active_NL = sparse.csr_matrix((encoded(dictionary, batch.seen_NW) > 0).numpy())
            parts.append(Firing.of(active_NL, document_of(subject.activations, batch)))
        return Firing.together(parts, dictionary.d_sae)


class Firing(NamedTuple):
    """Tokens on which each latent was active, by document."""

    documents_G: npt.NDArray[Any]
    n_tokens_G: Floats
    counts_GL: Any
    """Sparse."""

    @property
    def n_tokens(self) -> int:
        """Tokens of all documents."""
        return int(self.n_tokens_G.sum())

    @classmethod
    def of(cls, active_NL: Any, document_N: npt.NDArray[Any]) -> "Firing":
        """Count the tokens of one batch."""
        found = cls(document_N, np.ones(len(document_N)), active_NL.astype(np.float64))
        return cls.together([found], active_NL.shape[1])

    @classmethod
    def together(cls, parts: Sequence["Firing"], n_latents: int) -> "Firing":
        """Sums over batches."""
        if not parts:
            return cls(np.zeros(0), np.zeros(0), sparse.csr_matrix((0, n_latents)))
        documents_G, place_P = np.unique(
            np.concatenate([part.documents_G for part in parts]), return_inverse=True
        )
        gather_GP = sparse.csr_matrix((np.ones(len(place_P)), (place_P, np.arange(len(place_P)))))
        counts_PL = sparse.vstack([part.counts_GL for part in parts]).tocsr()
        tokens_P = np.concatenate([part.n_tokens_G for part in parts])
        return cls(documents_G, gather_GP @ tokens_P, (gather_GP @ counts_PL).tocsr())

    def spectrum(self) -> dict[str, float]:
        """Share of latents by bin."""
        return spectrum(np.asarray(self.counts_GL.sum(axis=0)).ravel(), self.n_tokens)

    def intervals(self) -> dict[str, Interval]:
        """Intervals of the shares; empty if the bias of resampling documents exceeds the spread."""
        n_documents, n_latents = self.counts_GL.shape
        none = Interval(None, None, n_documents)
        if n_documents < FEWEST_DOCUMENTS:
            return dict.fromkeys(BINS, none)
        shares_RB = np.concatenate(
            [
                _shares(draws_RG @ self.counts_GL, draws_RG @ self.n_tokens_G)
                for draws_RG in draw_blocks(n_documents, width=n_latents)
            ]
        )
        found = dict(zip(BINS, zip(*ends(shares_RB, n_documents), strict=True), strict=True))
        return {
            bin_: Interval(float(low), float(high), n_documents)
            if bin_ != UNSEEN and low <= share <= high
            else none
            for (bin_, share), (low, high) in zip(self.spectrum().items(), found.values(), strict=True)
        }


def spectrum(firing_L: npt.ArrayLike, n_tokens: int) -> dict[str, float]:
    """Share of latents by bin, ``unseen`` and ``log10 -6.0`` (the lower edge) to ``log10 -0.5``; sums to 1.

    Args:
        firing_L: Tokens on which each latent was active.
        n_tokens: All tokens.
    """
    shares_RB = _shares(np.asarray(firing_L, dtype=np.float64)[None], np.array([float(n_tokens)]))
    return dict(zip(BINS, shares_RB[0].tolist(), strict=True))


def _shares(firing_RL: Floats, n_tokens_R: Floats) -> Floats:
    """Shares of latents by bin of each replicate: (R, B)."""
    n_replicates, n_latents = firing_RL.shape
    with np.errstate(divide="ignore", invalid="ignore"):
        step_RL = np.floor((np.log10(firing_RL / n_tokens_R[:, None]) - EDGES[0]) * 2 + 1e-9)
    bin_RL = np.where(firing_RL > 0, np.clip(step_RL, 0, len(EDGES) - 2) + 1, 0).astype(np.int64)
    bin_RL += len(BINS) * np.arange(n_replicates)[:, None]
    counts = np.bincount(bin_RL.ravel(), minlength=n_replicates * len(BINS))
    shares_RB: Floats = counts.reshape(n_replicates, len(BINS)) / n_latents
    return shares_RB
