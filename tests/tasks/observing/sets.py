"""Activation sets in memory: documents of equal length, one a sequence, one character a token."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.activations.reading.shards import ActivationSet
from tasks.activations.text.packing import PackedTokens
from tasks.dictionaries.base import Dictionary, build_dictionary, dictionary_config


class SetInMemory(ActivationSet):
    """An activation set whose shards are an array."""

    def __init__(self, x_STD: np.ndarray, tokens: PackedTokens | None = None) -> None:
        self.folder = Path()
        n, length, width = x_STD.shape
        self.meta = {"n_sequences": n, "context_length": length, "d_in": width}
        self.tokens = packed(n, length) if tokens is None else tokens
        self._x_STD = x_STD

    def read(self, rows: Any) -> np.ndarray:
        return self._x_STD[np.asarray(rows)]


def packed(n: int, length: int, order: np.ndarray | None = None, width: int = 1) -> PackedTokens:
    """Documents in an order, whose tokens have ``width`` characters."""
    shape = (n, length)
    document = np.repeat((np.arange(n) if order is None else order)[:, None], length, axis=1)
    start = np.tile(np.arange(length, dtype=np.int32) * width, (n, 1))
    zeros = np.zeros(shape, np.int32)
    valid = np.ones(shape, bool)
    return PackedTokens(zeros, zeros, document.astype(np.int32), start, start + width, valid, n_train=n // 2)


def identity_dictionary(n_features: int) -> Dictionary:
    """``encode(x) = relu(x)``: what is stored is what each feature does."""
    fields = {"architecture": "relu_l1", "expansion_factor": 1, "l1_coefficient": 1.0, "seed": 0}
    config = dictionary_config({**fields, "lr": 1e-3, "n_tokens": 1_000, "batch_tokens": 100})
    dictionary = build_dictionary(config, n_features)
    with torch.no_grad():
        dictionary.W_enc.copy_(torch.eye(n_features))
        dictionary.W_dec.copy_(torch.eye(n_features))
    return dictionary
