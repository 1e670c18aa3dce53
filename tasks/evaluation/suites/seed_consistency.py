"""What another seed finds too: directions of one dictionary compared with those of its siblings.

- ``seed_mmcs`` = mean over latents of the largest decoder cosine with a latent of the sibling.
- ``seed_share`` variant ``above_0.7`` (``above_0.9``) = share of latents for which it exceeds that.
- ``seed_shared`` = share of latents whose best partner by decoder and by encoder is the same latent, with
  both cosines above 0.7 (Paulo and Belrose 2025, arXiv 2501.16615, with the best partner in place of an
  assignment).

Latents unseen on eval tokens are left out of both dictionaries: a dead latent keeps its random initial
direction. The control is the same with random directions in place of the sibling's, with the covariance of
its decoder rows and encoder columns: unrelated dictionaries of the same activations agree more than
isotropic directions do. Several siblings are averaged. Intervals are over the latents with fixed siblings:
they say nothing about other seeds.

Shapes: L latents, D width.
"""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from tasks.common.bootstrap import mean_interval
from tasks.common.progress import ProgressListener, silent
from tasks.dictionaries.base import Dictionary
from tasks.evaluation.recovery import best_cosines, unit_rows
from tasks.evaluation.suite import SUITES, Metric, Subject, Suite, SuiteConfig, Unmeasurable
from tasks.evaluation.tokens import encoded, token_batches
from tasks.measures.scatter import scatter_of

MMCS, SHARE, SHARED = "seed_mmcs", "seed_share", "seed_shared"
THRESHOLDS = (0.7, 0.9)
"""0.7 is the bound of Paulo and Belrose (2025); 0.9 says nearly the same direction."""
NAMES = ((MMCS, ""), *((SHARE, f"above_{limit}") for limit in THRESHOLDS), (SHARED, ""))
_SAME_ABOVE = 0.7
"""Paulo and Belrose (2025): a latent is shared if encoder and decoder both agree this well."""


class SeedConsistencyConfig(SuiteConfig):
    """Agreement with the dictionaries of the pipeline that differ only in the seed."""

    suite: Literal["seed_consistency"] = "seed_consistency"
    max_tokens: int = Field(default=200_000, ge=1)
    """Maximum number of eval tokens to read to find live latents."""


@SUITES.register("seed_consistency")
class SeedConsistency(Suite):
    """Counted in latents."""

    purpose = "compares a dictionary with those that differ in the seed alone"
    version: ClassVar[int] = 2
    reads: ClassVar[frozenset[str]] = frozenset({"siblings"})
    config: SeedConsistencyConfig

    def headline(self) -> tuple[tuple[str, str], ...]:
        return NAMES

    def measure(self, subject: Subject, listener: ProgressListener = silent) -> list[Metric]:
        if not subject.siblings:
            raise Unmeasurable("no other dictionary of the pipeline differs from this one only in the seed")
        own = self._alive(subject, subject.dictionary, listener)
        if not own[0].numel():
            raise Unmeasurable("no latent is active on the eval tokens")
        siblings = [self._alive(subject, sibling, listener) for sibling in subject.siblings]
        values = [agreement(own, sibling) for sibling in siblings]
        chance = [agreement(own, self._null(sibling, number)) for number, sibling in enumerate(siblings)]
        return [
            Metric(
                *name,
                float(np.mean([float(value[name].mean()) for value in values])),
                len(own[0]),
                {"random": float(np.mean([float(value[name].mean()) for value in chance]))},
                f"mean over {len(siblings)} other seed(s)",
                interval=mean_interval(torch.stack([value[name] for value in values]).mean(dim=0).numpy()),
                unit="latents",
            )
            for name in self.headline()
        ]

    def _null(self, sibling: tuple[Tensor, Tensor], number: int) -> tuple[Tensor, Tensor]:
        """Random directions in place of a sibling's, with the covariance of its decoder and encoder."""
        decoder, encoder = (scatter_of(rows).draw(len(rows), self.config.seed + number) for rows in sibling)
        return decoder, encoder

    def _alive(
        self, subject: Subject, dictionary: Dictionary, listener: ProgressListener
    ) -> tuple[Tensor, Tensor]:
        """Unit decoder rows and encoder columns of the latents seen on eval tokens."""
        seen_L = torch.zeros(dictionary.d_sae, dtype=torch.bool)
        for batch in token_batches(
            subject.activations, "eval", self.config.max_tokens, dictionary.d_sae, listener
        ):
            seen_L |= (encoded(dictionary, batch.seen_NW) > 0).any(dim=0)
        decoder = dictionary.W_dec.detach().float().cpu()[seen_L]
        encoder = dictionary.W_enc.detach().float().cpu().T[seen_L]
        return unit_rows(decoder), unit_rows(encoder)


def agreement(own: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> dict[tuple[str, str], Tensor]:
    """The averaged quantity for every latent (L,) float64; 0 if the other set is empty.

    Args:
        own: Unit decoder rows and unit encoder rows.
        other: The rows to compare with.
    """
    if not len(other[0]):
        return {name: torch.zeros(len(own[0]), dtype=torch.float64) for name in NAMES}
    decoder_cosine_L, by_decoder_L = best_cosines(own[0], other[0])
    encoder_cosine_L, by_encoder_L = best_cosines(own[1], other[1])
    both_L = (decoder_cosine_L > _SAME_ABOVE) & (encoder_cosine_L > _SAME_ABOVE)
    shared_L = both_L & (by_decoder_L == by_encoder_L)
    shares = {(SHARE, f"above_{t}"): (decoder_cosine_L > t).double() for t in THRESHOLDS}
    return {(MMCS, ""): decoder_cosine_L.double(), **shares, (SHARED, ""): shared_L.double()}
