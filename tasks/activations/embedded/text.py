"""From documents to training windows: the tokenizer, the token stream, the order of windows."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from tasks.activations.embedded.recipes import Recipe

BOS_TOKEN = "<|bos|>"
BOS_ID = 0


def train_tokenizer(recipe: Recipe, texts: Iterable[str]) -> Tokenizer:
    """A byte-level BPE tokenizer: every text has an encoding, and decoding gives it back."""
    tokenizer = Tokenizer(models.BPE())
    pattern = recipe.word_pattern
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    words = [pre_tokenizers.Split(Regex(pattern), behavior="isolated")] if pattern else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*words, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocab_size,
        special_tokens=[BOS_TOKEN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def parent_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a finished model."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def token_stream(tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """All documents one after another, a BOS before each: int64 (N,)."""
    stream: list[int] = []
    for encoding in tokenizer.encode_batch_fast(list(texts)):
        stream.append(BOS_ID)
        stream.extend(encoding.ids)
    return torch.tensor(stream, dtype=torch.int64)


def batch_at(stream_N: Tensor, recipe: Recipe, step: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets (B, T) of one step: a function of only the recipe and the step.

    Every epoch cuts the stream at a new offset and visits its windows in a new order. A window
    begins with BOS; a BOS further inside is an input and not a target (-100).
    """
    width = recipe.context_length
    n_windows = (len(stream_N) - width) // width
    steps_per_epoch = max(1, n_windows // recipe.batch_windows)
    epoch, step_of_epoch = divmod(step, steps_per_epoch)
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
    offset = int(torch.randint(width, (1,), generator=generator))
    order = torch.randperm(n_windows, generator=generator)
    first = step_of_epoch * recipe.batch_windows
    starts_B = order[first : first + recipe.batch_windows] * width + offset
    targets_BT = stream_N[starts_B[:, None] + torch.arange(width)]
    inputs_BT = torch.cat((torch.full_like(targets_BT[:, :1], BOS_ID), targets_BT[:, :-1]), dim=1)
    return inputs_BT, targets_BT.masked_fill(targets_BT == BOS_ID, -100)
