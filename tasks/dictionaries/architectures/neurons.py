"""Baseline: every neuron is a feature; if a neuron has both signs, each sign is one."""

from typing import Any, ClassVar, Literal

import torch

from catalog.schemas import UnitType
from tasks.dictionaries.base import ARCHITECTURES
from tasks.dictionaries.fitted import Baseline, BaselineConfig, Fitting
from tasks.dictionaries.trained import TrainedDictionary


class NeuronsConfig(BaselineConfig):
    """The activations themselves, for ``blocks.I.mlp_act``."""

    architecture: Literal["neurons"] = "neurons"

    def n_latents(self, d_in: int) -> int:
        return self.d_sae or 2 * d_in


@ARCHITECTURES.register("neurons")
class Neurons(Baseline):
    """Feature i is neuron i where it is positive; the negative sides follow, for neurons that have one."""

    purpose = "takes the neurons of `mlp_act` themselves, each sign a feature"
    config: NeuronsConfig
    unit_type: ClassVar[UnitType] = "neuron"

    @classmethod
    def fit(cls, config: Any, fitting: Fitting) -> TrainedDictionary:
        """Find the neurons that are ever negative."""
        identity_DD = torch.eye(fitting.activations.widths.d_in)
        negative_D = torch.zeros(len(identity_DD), dtype=torch.bool)
        last_ND = torch.empty(0)
        for batch in fitting.batches(config.n_tokens):
            last_ND = batch.x_ND
            negative_D |= (last_ND < 0).any(dim=0)
        directions_LD = torch.cat([identity_DD, -identity_DD[negative_D]])
        centre_D = torch.zeros(len(identity_DD))
        dictionary = cls.assembled(config.resolved(len(directions_LD)), directions_LD, centre_D)
        return fitting.finish(dictionary, last_ND)
