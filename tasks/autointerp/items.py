"""The items that a scorer judges, and what it says about them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from catalog.schemas import AnsweredBy
from tasks.autointerp.chat import CallRecord
from tasks.autointerp.metrics import Answers, Values
from tasks.autointerp.records import Rows

WRONG_TOKENS = "wrong_tokens"


@dataclass(frozen=True, slots=True)
class Items:
    """The items to judge (I, in the order shown): rows of the evidence and whether the feature fires."""

    row_I: Rows
    truth_I: npt.NDArray[np.bool_]
    kind_I: npt.NDArray[Any]
    """``firing``, ``random``, ``neighbour``, or ``wrong_tokens``: it fires, but not on the marked tokens."""

    def __len__(self) -> int:
        return len(self.row_I)

    @property
    def decidable(self) -> bool:
        """Whether there are items of both classes."""
        return bool(self.truth_I.any() and (~self.truth_I).any())

    def none(self) -> "Items":
        """No items."""
        return Items(self.row_I[:0], self.truth_I[:0], self.kind_I[:0])


@dataclass(frozen=True, slots=True)
class Trace:
    """True and simulated activation on each token of a context (T,), each in a unit of its own."""

    true_T: Values
    simulated_T: Values


@dataclass(frozen=True, slots=True)
class Judged:
    """What is said about the items, with the calls that said it."""

    answer_I: Answers
    """Yes, no or unanswered; only unanswered from a scorer that measures."""
    probability_I: tuple[float | None, ...] = ()
    call_id_I: tuple[str | None, ...] = ()
    calls: tuple[CallRecord, ...] = ()
    margin_I: Values | None = None
    """How much the explanation speaks for an item, NaN where nothing was said; only the order counts."""
    by: AnsweredBy = "answer"
    """What the margins or traces are."""
    traces: tuple[Trace | None, ...] = ()
    """Simulated activations of every item; None where nothing was said."""
