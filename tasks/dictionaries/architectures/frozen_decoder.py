"""Control: a TopK dictionary that trains its encoder and keeps its random decoder (arXiv 2602.14111).

Its directions say nothing about the model, yet a trained encoder chooses among them, so it scores far above
untrained random directions: 0.87 in interpretability where the trained dictionary of the paper has 0.90.
"""

from typing import ClassVar, Literal

import torch

from tasks.dictionaries.architectures.topk import TopK, TopKConfig
from tasks.dictionaries.base import ARCHITECTURES, GradientTraits
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.widths import Widths


class FrozenDecoderConfig(TopKConfig):
    """A TopK dictionary whose decoder rows stay as ``seed`` draws them."""

    is_control: ClassVar[bool] = True

    architecture: Literal["frozen_decoder"] = "frozen_decoder"  # type: ignore[assignment]


@ARCHITECTURES.register("frozen_decoder")
class FrozenDecoder(TopK):
    """Encoder and biases learn; ``W_dec`` is random unit rows before, during and after the training."""

    purpose = "is a `topk` that trains its encoder and keeps its random decoder, as a control"
    config: FrozenDecoderConfig
    gradient = GradientTraits(learns_decoder=False)

    def __init__(self, config: DictionaryConfig, widths: Widths) -> None:
        super().__init__(config, widths)
        self.W_dec.requires_grad_(False)

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Leave the rows as they are: they have unit norm, and rounding would move them at every step."""
