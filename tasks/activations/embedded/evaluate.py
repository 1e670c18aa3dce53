"""Bits per byte: how well a language model compresses text, comparable across tokenizers."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from tasks.activations.embedded.text import BOS_ID

Logits = Callable[[Tensor], Tensor]
"""Token ids (B, T) to logits (B, T, V)."""
IGNORED = -100
BATCH_WINDOWS = 32


def bits_per_byte(
    logits_of: Logits, documents: Sequence[Sequence[int]], n_bytes: int, context_length: int
) -> float:
    """Cross-entropy of every token of every document, in bits, over the documents' UTF-8 bytes.

    Each document is read in windows of ``context_length`` that begin with BOS and overlap by half: a token is
    scored once, in the window where more of its document precedes it.

    Args:
        documents: token ids of each document, without BOS.
        n_bytes: UTF-8 bytes of all documents together.
    """
    nats = 0.0
    inputs, targets = windows(documents, context_length)
    for first in range(0, len(inputs), BATCH_WINDOWS):
        with torch.no_grad():
            logits_BTV = logits_of(inputs[first : first + BATCH_WINDOWS]).float()
        targets_BT = targets[first : first + BATCH_WINDOWS]
        loss = functional.cross_entropy(
            logits_BTV.flatten(0, 1), targets_BT.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        nats += float(loss)
    return nats / math.log(2) / n_bytes


def windows(documents: Sequence[Sequence[int]], context_length: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets (B, T) of `bits_per_byte`; padding and repeated tokens have target -100."""
    stride = context_length // 2
    inputs: list[list[int]] = []
    targets: list[list[int]] = []
    for token_ids in documents:
        scored_to = 0
        for start in range(0, max(1, len(token_ids) - stride), stride):
            wanted = list(token_ids[start : start + context_length])
            padding = context_length - len(wanted)
            inputs.append([BOS_ID, *wanted[:-1], *[BOS_ID] * padding])
            repeated = scored_to - start
            targets.append([IGNORED] * repeated + wanted[repeated:] + [IGNORED] * padding)
            scored_to = start + len(wanted)
    return torch.tensor(inputs), torch.tensor(targets)
