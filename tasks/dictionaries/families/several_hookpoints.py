"""Shared code of dictionaries that write several hookpoints: norms at each, and folding per hookpoint.

Legend: N tokens, D d_in, E d_out, L d_sae, M hookpoints written. The directions of a latent at all M
hookpoints together have unit norm. ``site_scales`` are the factors that give activations of the hookpoints
comparable norms: the scales of the training. They are stored, because norms of two hookpoints, or of two
models, are not comparable in their own units.
"""

from typing import Any

import torch
from torch import Tensor

from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.saelens_form import SaelensForm
from tasks.dictionaries.widths import Widths


class SeveralHookpoints(Dictionary):
    """Base of crosscoders and cross-layer transcoders."""

    site_scales: Tensor

    def __init__(self, config: DictionaryConfig, widths: Widths) -> None:
        super().__init__(config, widths)
        self.register_buffer("site_scales", torch.ones(len(widths.writes)))

    def saelens(self) -> SaelensForm | None:
        """None, unless SAELens has the architecture."""
        return None

    def hookpoint_directions(self) -> tuple[Tensor, ...]:
        """What each latent writes to each hookpoint: M tensors (L, width)."""
        return torch.split(self.W_dec, list(self.widths.writes), dim=1)

    def comparable_norms(self) -> Tensor:
        """Norms of the directions at each hookpoint in comparable units: (L, M), differentiable."""
        return (
            torch.stack([part.norm(dim=1) for part in self.hookpoint_directions()], dim=1) * self.site_scales
        )

    def feature_columns(self) -> dict[str, list[Any]]:
        """The columns of the base class, and the norms at each hookpoint, in the units of its activations."""
        norms_LM = torch.stack([part.detach().norm(dim=1) for part in self.hookpoint_directions()], dim=1)
        return {**super().feature_columns(), "site_norms": norms_LM.tolist()}

    @torch.no_grad()
    def fold_scale(self, scale_in_D: Tensor, scale_out_E: Tensor) -> None:
        """Convert a dictionary from ``scale_in * x`` to ``scale_out * y`` into one from ``x`` to ``y``.

        Directions are divided by the scale of their hookpoint and scaled back to unit norm; c is the norm
        that they
        lost: f' = c f. A comparison between latents must therefore use ``f`` times a norm in comparable
            units, which
        no folding changes.
        """
        self.W_dec.div_(scale_out_E)
        self.b_dec.div_(scale_out_E)
        norms_L = self.W_dec.norm(dim=1).clamp_min(1e-12)
        self.W_dec.div_(norms_L.unsqueeze(1))
        self.scale_inputs(scale_in_D)
        self.W_enc.mul_(norms_L)
        self.b_enc.mul_(norms_L)
        firsts = torch.tensor((0, *self.widths.writes[:-1])).cumsum(0)
        self.site_scales.mul_(scale_out_E[firsts.to(scale_out_E.device)])

    def scale_inputs(self, scale_in_D: Tensor) -> None:
        """Multiply the weights that read each input by its scale."""
        self.W_enc.mul_(scale_in_D.unsqueeze(1))
