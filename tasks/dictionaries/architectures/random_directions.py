"""Baseline: random unit directions, the k strongest of each token."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.dictionaries.base import ARCHITECTURES
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.fitted import Baseline, BaselineConfig, Fitting
from tasks.dictionaries.trained import TrainedDictionary


class RandomDirectionsConfig(BaselineConfig):
    """The best untrained dictionary: the mean as b_dec, one factor fitted to the code."""

    example: ClassVar[dict[str, Any]] = {"k": 2}
    width_from_data: ClassVar[bool] = False
    is_control: ClassVar[bool] = True

    architecture: Literal["random_directions"] = "random_directions"
    k: int = Field(ge=1)
    """Directions to keep per token, those with the largest product."""

    def name(self) -> str:
        return DictionaryConfig.name(self)


@ARCHITECTURES.register("random_directions")
class RandomDirections(Baseline):
    """The control that any method must beat at equal width and k."""

    purpose = "takes random unit directions"
    config: RandomDirectionsConfig

    @classmethod
    def fit(cls, config: Any, fitting: Fitting) -> TrainedDictionary:
        """Draw by ``seed``, centre on the mean of the train tokens, fit the factor."""
        dictionary = cls(config, fitting.activations.widths).requires_grad_(False)
        sample_ND = fitting.sample(config.n_tokens)
        dictionary.b_dec.copy_(sample_ND.mean(dim=0))
        dictionary.fit_gain(sample_ND)
        return fitting.finish(dictionary, sample_ND)
