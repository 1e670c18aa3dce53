"""Dictionaries that look for the very directions that they write."""

import torch

from tasks.dictionaries.base import Dictionary, TrainingState, Widths
from tasks.dictionaries.config import DictionaryConfig


class TiedDictionary(Dictionary):
    """``W_enc`` is the transpose of ``W_dec``: losses use ``W_dec`` alone, ``W_enc`` follows it."""

    def __init__(self, config: DictionaryConfig, widths: Widths) -> None:
        super().__init__(config, widths)
        self.W_enc.requires_grad_(False)

    @torch.no_grad()
    def after_step(self, state: TrainingState) -> None:
        """Let the encoder follow."""
        self.W_enc.copy_(self.W_dec.T)
