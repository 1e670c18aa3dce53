"""Baselines for bits per byte: n-gram models of tokens with Witten-Bell smoothing."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from tasks.activations.embedded.text import BOS_ID

MAX_ORDER = 5

Context = tuple[int, ...]


class NGramModel:
    """Interpolated n-grams of all orders up to ``max_order``.

    Witten-Bell (Chen and Goodman 1998, section 2.5): with ``c`` the count of a context and ``u`` the number
    of different tokens seen after it, the model of the next lower order has the weight ``u / (c + u)``.
    Below the unigrams is the uniform distribution.
    """

    def __init__(self, vocab_size: int, max_order: int = MAX_ORDER) -> None:
        self.vocab_size = vocab_size
        self.max_order = max_order
        self.counts: Counter[Context] = Counter()
        self.followers: Counter[Context] = Counter()
        self.totals: Counter[Context] = Counter()

    def fit(self, documents: Iterable[Sequence[int]]) -> None:
        """Count the n-grams of token ids; BOS stands before each document."""
        for document in documents:
            tokens = (BOS_ID, *document)
            for order in range(self.max_order):
                self.counts.update(tokens[end - order : end + 1] for end in range(max(1, order), len(tokens)))
        for gram, count in self.counts.items():
            self.totals[gram[:-1]] += count
            self.followers[gram[:-1]] += 1

    def bits(self, document: Sequence[int]) -> list[float]:
        """Bits for the document under the model of each order, unigrams first."""
        tokens = (BOS_ID, *document)
        bits = [0.0] * self.max_order
        for end in range(1, len(tokens)):
            probability = 1 / self.vocab_size
            for order in range(self.max_order):
                context = tokens[end - order : end] if order <= end else None
                total = self.totals.get(context, 0) if context is not None else 0
                if context is not None and total:
                    followers = self.followers[context]
                    count = self.counts.get((*context, tokens[end]), 0)
                    probability = (count + followers * probability) / (total + followers)
                bits[order] -= math.log2(probability)
        return bits


def n_gram_bits_per_byte(
    train: Sequence[Sequence[int]],
    held_out: Sequence[Sequence[int]],
    n_bytes: int,
    vocab_size: int,
    max_order: int = MAX_ORDER,
) -> dict[str, float]:
    """Bits per byte of the held-out documents by order: ``{"1": ..., "2": ...}``."""
    model = NGramModel(vocab_size, max_order)
    model.fit(train)
    totals = [sum(column) for column in zip(*map(model.bits, held_out), strict=True)]
    return {str(order): round(total / n_bytes, 4) for order, total in enumerate(totals, start=1)}
