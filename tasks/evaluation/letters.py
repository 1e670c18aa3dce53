"""The first-letter task on running text: which valid tokens start a word, and with which letter.

The task of Chanin et al. 2024 (arXiv 2409.14507) and SAEBench asks a prompted model to spell. Here the
letter is read from the text, so any cached corpus works. A token starts a word if its text, without leading
blanks, starts with a letter a-z and the character before is not a letter, digit or underscore.

Shapes: N tokens, C letters.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from catalog.schemas import Split
from tasks.common.progress import ProgressListener, silent
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.evaluation.tokens import TokenBatch, token_batches

_READ_WIDTH = 1024


@dataclass(frozen=True)
class LetterTokens:
    """Tokens of a split that start a word."""

    x_ND: Tensor
    letters: list[str]
    """First letter of each, lower case."""
    words: list[str]
    """The token's own text without blanks, lower case: what a probe could memorise."""

    def take(self, keep: Sequence[int]) -> "LetterTokens":
        """Some of the tokens."""
        index = torch.as_tensor(list(keep), dtype=torch.long)
        return LetterTokens(self.x_ND[index], [self.letters[i] for i in keep], [self.words[i] for i in keep])


def letter_tokens(
    activations: HookpointActivations,
    texts: Sequence[str],
    split: Split,
    n_tokens: int,
    per_word: int,
    min_letters: int,
    listener: ProgressListener = silent,
) -> LetterTokens:
    """Word-initial tokens among about ``n_tokens`` of a split, at most ``per_word`` of each token text."""
    seen: Counter[str] = Counter()
    parts: list[Tensor] = []
    letters, words = [], []
    for batch in token_batches(activations, split, n_tokens, _READ_WIDTH, listener):
        keep = []
        for place, word in _words(activations, batch, texts, min_letters):
            if seen[word] < per_word:
                seen[word] += 1
                keep.append(place)
                letters.append(word[0])
                words.append(word)
        parts.append(batch.x_ND[keep])
    width = activations.widths.d_in
    return LetterTokens(torch.cat([torch.zeros(0, width), *parts]), letters, words)


def _words(
    activations: HookpointActivations, batch: TokenBatch, texts: Sequence[str], min_letters: int
) -> list[tuple[int, str]]:
    tokens = activations.tokens
    columns = [
        np.asarray(column)[batch.rows_N, batch.positions_N].tolist()
        for column in (tokens.document_index, tokens.char_start, tokens.char_end)
    ]
    found = []
    for place, (document, start, end) in enumerate(zip(*columns, strict=True)):
        word = word_begun(texts[document], start, end) if 0 <= document < len(texts) else None
        if word is not None and len(word) >= min_letters:
            found.append((place, word))
    return found


def word_begun(text: str, start: int, end: int) -> str | None:
    """The token's letters, lower case, if characters ``start`` to ``end`` start a word; else None."""
    token = text[start:end]
    word = token.lstrip()
    first = start + len(token) - len(word)
    if not word.isascii() or not word.isalpha():
        return None
    before = text[first - 1] if first > 0 else " "
    return None if before.isalnum() or before == "_" else word.lower()


def usual_letters(train: LetterTokens, test: LetterTokens, min_tokens: int, min_words: int) -> list[str]:
    """Letters with enough tokens in both splits and enough different words, in alphabetical order."""
    counts = [Counter(part.letters) for part in (train, test)]
    vocabulary = Counter(word[0] for word in set(train.words))
    return sorted(
        letter
        for letter in counts[0]
        if min(count[letter] for count in counts) >= min_tokens and vocabulary[letter] >= min_words
    )


def one_hot(labels: Sequence[str], classes: Sequence[str]) -> NDArray[np.bool_]:
    """Which example has which class: (N, C)."""
    result: NDArray[np.bool_] = np.array(labels)[:, None] == np.array(classes)
    return result


def shuffled_by_word(words: Sequence[str], seed: int) -> Callable[[str], str]:
    """Letters assigned to words at random: the null of a probe that memorises words."""
    vocabulary = sorted(set(words))
    shuffled: NDArray[Any] = np.random.default_rng(seed).permutation([word[0] for word in vocabulary])
    table = dict(zip(vocabulary, shuffled.tolist(), strict=True))
    return lambda word: table[word]
