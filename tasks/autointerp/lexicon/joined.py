"""Words put together from their pieces: what a word says up to each of its tokens.

Legend: W windows, T tokens, V distinct tokens, J distinct beginnings of words.
"""

import re

import numpy as np
import numpy.typing as npt

from tasks.autointerp.lexicon.vocabulary import Bools, Codes, Vocabulary

_LAST_LETTERS = re.compile(r"[^\W\d_]*\Z")
NO_WORD = 0
"""Code of a token that does not end in a letter, or whose word began before the window."""


class WordStarts:
    """The distinct beginnings of words in a block of windows, in lower case; entry 0 is no word."""

    def __init__(self) -> None:
        self.texts: list[str] = [""]
        self._position: dict[str, int] = {"": NO_WORD}

    def __len__(self) -> int:
        return len(self.texts)

    def add(self, text: str) -> int:
        """The code of a beginning."""
        code = self._position.setdefault(text, len(self.texts))
        if code == len(self.texts):
            self.texts.append(text)
        return code

    def codes(self, values: tuple[str, ...]) -> list[int]:
        """The codes of those ``values`` that occur."""
        return [self._position[value] for value in values if value and value in self._position]


def last_letters(text: str) -> str:
    """The letters at the end of a text."""
    found = _LAST_LETTERS.search(text)
    return found[0] if found else ""


def continues_word(vocabulary: Vocabulary) -> Bools:
    """Which tokens (V,) are letters alone, so that they continue a word that the token before has begun."""
    texts = vocabulary.texts
    whole_V = np.fromiter((text.isalpha() for text in texts), bool, len(texts))
    whole_V &= ~vocabulary.special_V
    return whole_V


def joined_words(
    vocabulary: Vocabulary, token_WT: Codes, document_start_W: Bools
) -> tuple[npt.NDArray[np.int32], WordStarts]:
    """The code (W, T) of what each token's word says up to its end, and the texts of the codes.

    A word that may have begun before its window has no code.
    """
    starts = WordStarts()
    whole_V = continues_word(vocabulary)
    fresh_V = np.asarray(
        [
            NO_WORD if is_special else starts.add(last_letters(text).lower())
            for text, is_special in zip(vocabulary.texts, vocabulary.special_V.tolist(), strict=True)
        ],
        np.int32,
    )
    pairs: dict[int, int] = {}
    joined_WT = np.zeros(token_WT.shape, np.int32)
    unknown_W = ~document_start_W
    before_W = np.zeros(len(token_WT), np.int32)
    for t in range(token_WT.shape[1]):
        token_W = token_WT[:, t]
        whole_W = whole_V[token_W]
        unknown_W = unknown_W & whole_W
        now_W = fresh_V[token_W]
        continued_W = whole_W & (before_W > 0)
        keys = before_W[continued_W].astype(np.int64) * len(vocabulary) + token_W[continued_W]
        now_W[continued_W] = _continued(keys, pairs, starts, vocabulary)
        now_W[unknown_W] = NO_WORD
        joined_WT[:, t] = before_W = now_W
    return joined_WT, starts


def _continued(
    keys: npt.NDArray[np.int64], pairs: dict[int, int], starts: WordStarts, vocabulary: Vocabulary
) -> npt.NDArray[np.int32]:
    """Codes of a beginning with one more token; ``pairs`` holds those that are known."""
    distinct, inverse = np.unique(keys, return_inverse=True)
    codes = np.empty(len(distinct), np.int32)
    for i, key in enumerate(distinct.tolist()):
        code = pairs.get(key)
        if code is None:
            begun, token = divmod(key, len(vocabulary))
            code = pairs[key] = starts.add(starts.texts[begun] + vocabulary.texts[token].lower())
        codes[i] = code
    return codes[inverse]


def whole_words(vocabulary: Vocabulary, token_WT: Codes, joined_WT: Codes, word_starts: WordStarts) -> Bools:
    """Tokens (W, T) that are a word of their own: no piece before them, none after."""
    length_J = np.fromiter(map(len, word_starts.texts), np.int32, len(word_starts))
    length_V = np.fromiter((len(last_letters(text)) for text in vocabulary.texts), np.int32, len(vocabulary))
    alone_WT = (joined_WT != NO_WORD) & (length_J[joined_WT] == length_V[token_WT])
    alone_WT[:, :-1] &= ~continues_word(vocabulary)[token_WT[:, 1:]]
    return np.asarray(alone_WT, bool)
