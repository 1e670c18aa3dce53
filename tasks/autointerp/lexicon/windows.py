"""Token windows in columns, so that a rule is evaluated on all of them at once.

Legend: W windows, T tokens of the longest window; shorter windows are padded with token 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.autointerp.lexicon.joined import WordStarts, joined_words, whole_words
from tasks.autointerp.lexicon.vocabulary import Bools, Codes, Vocabulary

Floats = npt.NDArray[np.float32]
NO_LABELS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of text with the activation of one feature on every token."""

    vocabulary: Vocabulary
    token_WT: Codes
    activation_WT: Floats
    line_start_WT: Bools
    sentence_start_WT: Bools
    joined_WT: Codes
    word_starts: WordStarts
    word_WT: Bools
    lag_WT: npt.NDArray[np.int16]
    length_W: Codes
    peak_W: Codes
    document_start_WT: Bools
    context_position_WT: Codes
    document_W: npt.NDArray[Any]
    labels: Mapping[str, Mapping[str, str]]

    def __len__(self) -> int:
        return len(self.token_WT)

    @property
    def n_tokens(self) -> int:
        """T, the padded length."""
        return int(self.token_WT.shape[1])

    def take(self, rows: "slice | Codes | Bools | npt.NDArray[np.intp]") -> "Windows":
        """The windows at ``rows``; a slice gives views."""
        return Windows(
            self.vocabulary,
            self.token_WT[rows],
            self.activation_WT[rows],
            self.line_start_WT[rows],
            self.sentence_start_WT[rows],
            self.joined_WT[rows],
            self.word_starts,
            self.word_WT[rows],
            self.lag_WT[rows],
            self.length_W[rows],
            self.peak_W[rows],
            self.document_start_WT[rows],
            self.context_position_WT[rows],
            self.document_W[rows],
            self.labels,
        )

    def tokens(self, window: int) -> tuple[str, ...]:
        """The token texts of one window."""
        texts = self.vocabulary.texts
        return tuple(texts[i] for i in self.token_WT[window, : self.length_W[window]].tolist())

    def special(self, window: int) -> tuple[bool, ...]:
        """Which tokens of one window are special."""
        special_V = self.vocabulary.special_V
        return tuple(special_V[self.token_WT[window, : self.length_W[window]]].tolist())

    def activations(self, window: int) -> Floats:
        """The activations of one window."""
        return self.activation_WT[window, : self.length_W[window]]

    def labels_of(self, window: int) -> Mapping[str, str]:
        """The labels of the window's document."""
        return self.labels.get(self.document_W[window], NO_LABELS)

    def firing(self, share: float = 0.0) -> Bools:
        """Tokens (W, T) above ``share`` of the largest activation of their window."""
        top_W1 = self.activation_WT.max(axis=1, keepdims=True, initial=0.0)
        firing: Bools = (self.activation_WT > share * top_W1) & (self.activation_WT > 0)
        return firing


def build_windows(
    vocabulary: Vocabulary,
    tokens: Codes,
    activations: Floats,
    length_W: Codes,
    *,
    peak_W: Codes,
    document_start_W: Bools,
    text_before_W: Codes,
    document_W: npt.NDArray[Any],
    labels: Mapping[str, Mapping[str, str]],
) -> Windows:
    """Windows from concatenated tokens (positions in the vocabulary) and activations.

    Args:
        document_start_W: Whether the window's text is the start of its document.
        text_before_W: Tokens of text that the model read before the window.
    """
    n_tokens = int(length_W.max(initial=1))
    inside_WT = np.arange(n_tokens) < length_W[:, None]
    token_WT = np.zeros(inside_WT.shape, np.int32)
    token_WT[inside_WT] = tokens
    activation_WT = np.zeros(inside_WT.shape, np.float32)
    activation_WT[inside_WT] = activations
    joined_WT, word_starts = joined_words(vocabulary, token_WT, document_start_W)
    return Windows(
        vocabulary,
        token_WT,
        activation_WT,
        _line_starts(vocabulary, token_WT, document_start_W),
        _sentence_starts(vocabulary, token_WT, document_start_W),
        joined_WT,
        word_starts,
        whole_words(vocabulary, token_WT, joined_WT, word_starts),
        _lags(vocabulary, token_WT),
        length_W,
        peak_W,
        _first_of_text(vocabulary, token_WT) & document_start_W[:, None],
        _context_positions(vocabulary, token_WT, text_before_W),
        document_W,
        labels,
    )


def _is_text(vocabulary: Vocabulary, token_WT: Codes) -> Bools:
    """Tokens that are neither padding nor special."""
    is_text: Bools = (token_WT > 0) & ~vocabulary.special_V[token_WT]
    return is_text


def _first_of_text(vocabulary: Vocabulary, token_WT: Codes) -> Bools:
    """The first token of each window that is text."""
    text_WT = _is_text(vocabulary, token_WT)
    first: Bools = text_WT & (np.cumsum(text_WT, axis=1) == 1)
    return first


def _context_positions(vocabulary: Vocabulary, token_WT: Codes, text_before_W: Codes) -> Codes:
    """The number of tokens of text that the model read before each; -1 for special tokens and padding."""
    text_WT = _is_text(vocabulary, token_WT)
    position_WT = text_before_W[:, None] + np.cumsum(text_WT, axis=1) - 1
    return np.where(text_WT, position_WT, -1).astype(np.int32)


def _line_starts(vocabulary: Vocabulary, token_WT: Codes, document_start_W: Bools) -> Bools:
    """Tokens preceded only by blanks in their line.

    The text before a window is unknown, so its first token counts only at a document's start. Special
    tokens do not belong to a line and change nothing about it.
    """
    opens_V = np.fromiter(
        ("\n" in text and not text.rpartition("\n")[2].strip() for text in vocabulary.texts),
        bool,
        len(vocabulary),
    )
    opens_V &= ~vocabulary.special_V
    blank_V = np.fromiter(
        (bool(text) and "\n" not in text and not text.strip() for text in vocabulary.texts),
        bool,
        len(vocabulary),
    )
    blank_V |= vocabulary.special_V
    start_WT = np.zeros(token_WT.shape, bool)
    state_W = document_start_W.copy()
    for t in range(token_WT.shape[1]):
        start_WT[:, t] = state_W
        state_W = opens_V[token_WT[:, t]] | (blank_V[token_WT[:, t]] & state_W)
    start_WT &= _is_text(vocabulary, token_WT)
    return start_WT


def _sentence_starts(vocabulary: Vocabulary, token_WT: Codes, document_start_W: Bools) -> Bools:
    """Words after a full stop, question or exclamation mark and white space, or at a document's start."""
    texts, n = vocabulary.texts, len(vocabulary)
    ends_V = np.fromiter((text.rstrip().rstrip("\"'”’)")[-1:] in tuple(".!?") for text in texts), bool, n)
    ends_V &= np.fromiter((any(c in ".!?" for c in text) for text in texts), bool, n)
    mark_V = np.fromiter((text.strip() in ('"', "'", "”", "’", ")", "''") for text in texts), bool, n)
    blank_V = np.fromiter((bool(text) and not text.strip() for text in texts), bool, n) | vocabulary.special_V
    spaced_V = np.fromiter((text[:1].isspace() for text in texts), bool, n)
    open_V = np.fromiter((text != text.rstrip() for text in texts), bool, n)
    word_V = np.fromiter((text.strip()[:1].isalpha() for text in texts), bool, n) & ~vocabulary.special_V
    start_WT = np.zeros(token_WT.shape, bool)
    ended_W, apart_W = document_start_W.copy(), document_start_W.copy()
    for t in range(token_WT.shape[1]):
        token_W = token_WT[:, t]
        start_WT[:, t] = ended_W & word_V[token_W] & (apart_W | spaced_V[token_W])
        stays_W = ended_W & (blank_V[token_W] | mark_V[token_W])
        apart_W = open_V[token_W] | (apart_W & vocabulary.special_V[token_W])
        ended_W = ends_V[token_W] | stays_W
    return start_WT


def _lags(vocabulary: Vocabulary, token_WT: Codes) -> npt.NDArray[np.int16]:
    """Distance to the same token earlier in the window, 0 if there is none or it has no letter or digit."""
    worded_V = np.fromiter(
        (any(c.isalnum() for c in text) for text in vocabulary.texts), bool, len(vocabulary)
    )
    worded_V &= ~vocabulary.special_V
    lag_WT = np.zeros(token_WT.shape, np.int16)
    for lag in range(token_WT.shape[1] - 1, 0, -1):
        lag_WT[:, lag:][token_WT[:, lag:] == token_WT[:, :-lag]] = lag
    lag_WT[~worded_V[token_WT]] = 0
    return lag_WT
