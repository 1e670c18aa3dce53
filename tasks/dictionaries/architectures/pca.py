"""Baseline: principal components, both directions of each."""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from tasks.dictionaries.base import ARCHITECTURES
from tasks.dictionaries.fitted import Baseline, BaselineConfig, Fitting
from tasks.dictionaries.trained import TrainedDictionary


class PcaConfig(BaselineConfig):
    """Principal components of the train tokens; each component gives two features, one per sign."""

    architecture: Literal["pca"] = "pca"
    n_components: int | None = Field(default=None, ge=1)
    """Components to keep, those with the largest variance; default: all."""

    def n_kept(self, d_in: int) -> int:
        """Components on inputs of width ``d_in``."""
        return min(self.n_components or d_in, d_in)

    def n_latents(self, d_in: int) -> int:
        return 2 * self.n_kept(d_in)

    def sparsity_tag(self) -> str:
        components = "" if self.n_components is None else f"c{self.n_components}"
        return "-".join(filter(None, (components, super().sparsity_tag())))


@ARCHITECTURES.register("pca")
class PrincipalComponents(Baseline):
    """Feature c is component c, feature n_components + c its opposite; L0 is n_components, or k."""

    purpose = "takes principal components, both directions of each"
    config: PcaConfig

    @classmethod
    def fit(cls, config: Any, fitting: Fitting) -> TrainedDictionary:
        """Mean and covariance in one pass, in float64; the largest entry of a component is positive."""
        n, width = 0, fitting.activations.widths.d_in
        sum_D, last_ND = torch.zeros(width, dtype=torch.float64), torch.empty(0)
        products_DD = torch.zeros(width, width, dtype=torch.float64)
        shift_D: Tensor | None = None
        for batch in fitting.batches(config.n_tokens):
            last_ND = batch.x_ND
            shift_D = last_ND.double().mean(dim=0) if shift_D is None else shift_D
            shifted_ND = last_ND.double() - shift_D
            n += len(last_ND)
            sum_D += shifted_ND.sum(dim=0)
            products_DD += shifted_ND.T @ shifted_ND
        assert shift_D is not None
        mean_D = sum_D / n
        _, vectors_DD = torch.linalg.eigh(products_DD / n - torch.outer(mean_D, mean_D))
        components_CD = vectors_DD.flip(1).T[: config.n_kept(width)]
        largest_C1 = components_CD.gather(1, components_CD.abs().argmax(dim=1, keepdim=True))
        components_CD = components_CD * largest_C1.sign()
        directions_LD = torch.cat([components_CD, -components_CD]).float()
        centre_D = (shift_D + mean_D).float()
        dictionary = cls.assembled(config.resolved(len(directions_LD)), directions_LD, centre_D)
        return fitting.finish(dictionary, last_ND)
