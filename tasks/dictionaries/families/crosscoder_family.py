"""Shared code of crosscoders: several layers, or two models, read and reconstructed together.

``f = act(sum_M a^M W_enc^M + b_enc)``, ``a^M = f W_dec^M + b_dec^M`` (Lindsey et al. 2024). The input is not
centred. Legend: L d_sae, M hookpoints.
"""

from typing import Any

import torch
from torch import Tensor

from tasks.dictionaries.base import GradientTraits
from tasks.dictionaries.families.several_hookpoints import SeveralHookpoints
from tasks.dictionaries.gradient_config import GradientConfig


class CrosscoderFields(GradientConfig):
    """The hookpoints that a crosscoder needs."""

    def check_hookpoints(self) -> None:
        n_hookpoints = len(self.reads or ()) * len(self.models or ("any",))
        if self.writes is not None or n_hookpoints < 2 or len(set(self.models or (0, 1))) != 2:
            raise ValueError(
                f"{self.architecture} reconstructs several hookpoints together: give two or more reads, or "
                "models: [first, second] with reads that both of them cache, and leave out writes"
            )


class Crosscoding(SeveralHookpoints):
    """Mix in before the class that encodes."""

    gradient = GradientTraits()

    def centre(self) -> Tensor | None:
        """None: the bias of the encoder absorbs the means."""
        return None

    def summed_norms(self) -> Tensor:
        """``sum_M |W_dec^M|`` in comparable units: (L,). L1 and the selection of latents use it as weight.

        With the sum, a latent of one hookpoint is as cheap as a shared one; the norm of all together would
        not do that.
        """
        return self.comparable_norms().sum(dim=1)

    def relative_norms(self) -> Tensor:
        """Norm at the last hookpoint over the sum of all: 0.5 is shared by two, 1 is only the last one's."""
        norms_LM = self.comparable_norms().detach()
        return norms_LM[:, -1] / norms_LM.sum(dim=1).clamp_min(1e-12)

    def feature_columns(self) -> dict[str, list[Any]]:
        """The columns of the base class, and the relative norm."""
        return {**super().feature_columns(), "relative_norm": self.relative_norms().tolist()}

    def first_last_cosine(self) -> Tensor | None:
        """Cosine of what a latent writes to the first and the last hookpoint, if their widths agree: (L,)."""
        first_LD, *_, last_LD = self.hookpoint_directions()
        if first_LD.shape != last_LD.shape:
            return None
        return torch.nn.functional.cosine_similarity(first_LD.detach(), last_LD.detach(), dim=1)
