"""Where a token stands relative to the current one.

Text outside the window is unknown and is nowhere. Legend: W windows, T tokens, V distinct tokens.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from tasks.autointerp.lexicon.vocabulary import Bools
from tasks.autointerp.lexicon.windows import Windows

Place = Literal["here", "previous", "next", "before", "line"]
NEAR_TOKENS = 5
"""A phrase; what is further away is told by "earlier in its line"."""


def at_place(here_WT: Bools, place: Place, windows: Windows) -> Bools:
    """Where (W, T) one of the tokens ``here_WT`` is at ``place`` relative to the current token."""
    if place == "here":
        return here_WT
    moved_WT = np.zeros(here_WT.shape, bool)
    if place == "previous":
        moved_WT[:, 1:] = here_WT[:, :-1]
    elif place == "next":
        moved_WT[:, :-1] = here_WT[:, 1:]
    else:
        last_WT = _last_before(here_WT)
        t = np.arange(here_WT.shape[1])
        if place == "before":
            moved_WT = (last_WT >= 0) & (last_WT >= t - NEAR_TOKENS)
        else:
            newline_V = windows.vocabulary.table("class", ("newline",))
            moved_WT = last_WT > _last_before(newline_V[windows.token_WT])
    return moved_WT & (windows.token_WT > 0)


def attributes(windows: Windows) -> Bools:
    """Names (W, T) after ``self.``, which may be one token or several."""
    vocabulary, token_WT = windows.vocabulary, windows.token_WT
    self_WT = vocabulary.table("word", ("self", "cls"))[token_WT]
    dot_WT = vocabulary.table("is", (".",))[token_WT]
    named_WT = vocabulary.tested("dot_name", lambda text: text[:1] == "." and len(text) > 1)[token_WT]
    prefix_WT = vocabulary.tested("self_dot", lambda text: text.endswith("self."))[token_WT]
    after_WT = np.zeros(token_WT.shape, bool)
    after_WT[:, 2:] = self_WT[:, :-2] & dot_WT[:, 1:-1]
    after_WT[:, 1:] |= (self_WT[:, :-1] & named_WT[:, 1:]) | prefix_WT[:, :-1]
    return after_WT & (token_WT > 0)


def _last_before(true_WT: Bools) -> npt.NDArray[np.int16]:
    """Position of the last true entry before each position, -1 if there is none."""
    last_WT = np.full(true_WT.shape, -1, np.int16)
    positions = np.arange(true_WT.shape[1], dtype=np.int16)
    last_WT[:, 1:] = np.where(true_WT, positions, np.int16(-1))[:, :-1]
    np.maximum.accumulate(last_WT, axis=1, out=last_WT)
    return last_WT
