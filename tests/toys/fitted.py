"""The smallest architecture that is fitted in one go: the axes of the activations."""

from typing import Literal

import torch

from tasks.dictionaries.base import ARCHITECTURES
from tasks.dictionaries.fitted import Baseline, BaselineConfig, Fitting
from tasks.dictionaries.trained import TrainedDictionary


class ToyFittedConfig(BaselineConfig):
    """No setting of its own."""

    architecture: Literal["toy_fitted"] = "toy_fitted"


@ARCHITECTURES.register("toy_fitted")
class ToyFitted(Baseline):
    """Feature i is dimension i, where it is above its mean."""

    config: ToyFittedConfig
    purpose = "takes the axes of the activations"

    @classmethod
    def fit(cls, config: ToyFittedConfig, fitting: Fitting) -> TrainedDictionary:
        sample_ND = fitting.sample(config.n_tokens)
        width = sample_ND.shape[1]
        return fitting.finish(
            cls.assembled(config.resolved(width), torch.eye(width), sample_ND.mean(dim=0)), sample_ND
        )
