"""Dictionaries whose encoder uses the directions of the decoder."""

import torch

from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.training_state import TrainingState
from tasks.dictionaries.widths import Widths


class TiedDictionary(Dictionary):
    """``W_enc`` is the transpose of ``W_dec``: losses use only ``W_dec``, ``W_enc`` follows it."""

    def __init__(self, config: DictionaryConfig, widths: Widths) -> None:
        super().__init__(config, widths)
        self.W_enc.requires_grad_(False)

    @torch.no_grad()
    def after_step(self, state: TrainingState) -> None:
        """Update the encoder."""
        self.W_enc.copy_(self.W_dec.T)
