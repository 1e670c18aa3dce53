"""Special tokens, and the amount of text read before each token.

A token is special if the tokenizer says so, or if it has no character. The further tokens of one character
are not special: each has the complete character. Shapes: B sequences, T context, W contexts.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tasks.activations.text.packing import PackedTokens

_CONTEXTS_AT_ONCE = 16_384


class SpecialTokens:
    """Which tokens of an activation set are special."""

    def __init__(self, tokens: "PackedTokens", token_ids: Sequence[int]) -> None:
        self.tokens = tokens
        self.token_ids = np.asarray(token_ids, np.int64)

    def in_rows(self, rows: np.ndarray) -> np.ndarray:
        """Flags (rows, T) of some sequences."""
        tokens = self.tokens
        return self.flags(
            *(np.asarray(of[rows]) for of in (tokens.token_ids, tokens.char_start, tokens.char_end))
        )

    def flags(self, token_ids_W: np.ndarray, char_start_W: np.ndarray, char_end_W: np.ndarray) -> np.ndarray:
        """Flags (W,) of some tokens."""
        special: np.ndarray = np.isin(token_ids_W, self.token_ids) | (char_end_W <= char_start_W)
        return special

    def text_before(self, start_W: np.ndarray) -> np.ndarray:
        """Tokens of text (W,) between the start of the stretch that the model read and each position."""
        parts = [
            self._text_before(start_W[first : first + _CONTEXTS_AT_ONCE])
            for first in range(0, len(start_W), _CONTEXTS_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def _text_before(self, start_W: np.ndarray) -> np.ndarray:
        sequence_W, token_W = np.divmod(start_W, self.tokens.segment.shape[1])
        rows, row_W = np.unique(sequence_W, return_inverse=True)
        segment_BT = np.asarray(self.tokens.segment[rows])
        begins_BT = np.ones(segment_BT.shape, dtype=bool)
        begins_BT[:, 1:] = segment_BT[:, 1:] != segment_BT[:, :-1]
        begin_BT = np.maximum.accumulate(np.where(begins_BT, np.arange(segment_BT.shape[1]), 0), axis=1)
        n_text_BT = np.zeros((len(rows), segment_BT.shape[1] + 1), dtype=np.int64)
        n_text_BT[:, 1:] = np.cumsum(~self.in_rows(rows), axis=1)
        before: np.ndarray = n_text_BT[row_W, token_W] - n_text_BT[row_W, begin_BT[row_W, token_W]]
        return before
