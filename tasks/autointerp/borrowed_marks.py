"""Chooses the tokens that fuzzing marks where the feature is silent: the marks of a firing context, moved.

Someone who has not read the explanation must not be able to distinguish correct marks from wrong ones.
Every silent context therefore borrows the marks of a firing one, and each firing context lends about
equally often. The number of marks, the lengths of their runs and the gaps between them are then the same by
construction. The marks move together to a position where the tokens under them are of the same kind (a word
that begins or continues, punctuation, white space, no text), as near to their old position as possible.

Legend: P firing contexts, N silent ones, I items, T tokens of the longest, M marks of one context.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from tasks.autointerp.lexicon.vocabulary import Bools

Kinds = npt.NDArray[np.int8]
MISMATCH = 1_000
"""The distance in tokens that one token of another kind is worth."""
ACTIVE = 100_000
"""Cost of a borrowed mark on a token on which the feature fires."""
CUT = 1_000_000
"""Cost of a mark that does not fit."""


@lru_cache(maxsize=100_000)
def kind_of(text: str) -> int:
    """0 for no text, 1 for white space, 2 for punctuation, 3 for a word after a space, 4 for one without."""
    core = text.strip()
    if not core:
        return int(bool(text))
    if not any(c.isalnum() for c in core):
        return 2
    return 3 if text[0].isspace() else 4


def borrow(
    tokens: Sequence[Sequence[str]],
    marked_IT: Bools,
    truth_I: Bools,
    generator: np.random.Generator,
    active_IT: Bools | None = None,
) -> Bools:
    """Marks (I, T) of all items: their own if ``truth_I``, borrowed ones otherwise.

    Args:
        tokens: Token texts of each item.
        marked_IT: The correct marks of the items on which the feature fires.
        truth_I: Where it fires, at least on one item.
        generator: Breaks ties.
        active_IT: Tokens that borrowed marks avoid, because the feature fires on them.
    """
    firing, silent = np.flatnonzero(truth_I), np.flatnonzero(~truth_I)
    marks_IT: Bools = marked_IT & truth_I[:, None]
    if not len(firing) or not len(silent):
        return marks_IT
    kinds = [np.fromiter(map(kind_of, item), np.int8, len(item)) for item in tokens]
    lenders = np.resize(generator.permutation(firing), -(-len(silent) // len(firing)) * len(firing))
    tosses = generator.choice([-0.25, 0.25], len(silent))
    if active_IT is None:
        active_IT = np.zeros_like(marks_IT)
    placed = [
        [
            _place(kinds[lender], np.flatnonzero(marks_IT[lender]), kinds[item], toss, active_IT[item])
            for lender in lenders
        ]
        for item, toss in zip(silent, tosses, strict=True)
    ]
    costs = np.asarray([[cost for cost, _ in row] for row in placed])
    for row, column in zip(*linear_sum_assignment(costs), strict=True):
        marks_IT[silent[row], placed[row][column][1]] = True
    return marks_IT


def _place(
    from_kinds: Kinds, marks_M: npt.NDArray[np.intp], to_kinds: Kinds, toss: float, active_T: Bools
) -> tuple[float, npt.NDArray[np.intp]]:
    """The cheapest way to move the marks together into another context: its cost, and the new positions."""
    room = len(to_kinds)
    fitting = marks_M[marks_M - marks_M[0] < room]
    n_cut = len(marks_M) - len(fitting)
    shifts = np.arange(-int(fitting[0]), room - int(fitting[-1]))
    landed = fitting + shifts[:, None]
    n_wrong = (to_kinds[landed] != from_kinds[fitting]).sum(axis=1)
    n_active = active_T[landed].sum(axis=1)
    costs = MISMATCH * n_wrong + np.abs(shifts - toss) + CUT * n_cut + ACTIVE * n_active
    best = int(np.argmin(costs))
    return float(costs[best]), landed[best]
