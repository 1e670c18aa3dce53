"""Detects judges whose answers do not depend on the passages, before the whole dictionary is paid for.

Items are in random order, about half of them firing. A judge that reads them rarely gives all passages of a
question the same answer, and almost never gives the same list to consecutive questions.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

MIN_QUESTIONS = 20
"""Questions after which a judge is suspected."""
MIN_ANSWERS = 3
"""Questions with fewer answers are ignored."""
SUSPECT_SHARE = 0.95
"""One reply in twenty may differ: a judge that ignores the items slips now and then."""


class AnswerWatch:
    """The answers of one judge to questions about explanations of their own features."""

    def __init__(self, example: Sequence[int], *, mostly_no: bool = False) -> None:
        """
        Args:
            example: The answers in the prompt's example.
            mostly_no: Whether few of the passages fire, so that only no is a likely reply to a question.
        """
        self._example = tuple(example)
        self._mostly_no = mostly_no
        self._lists: Counter[tuple[int, ...]] = Counter()

    def add(self, answers: Sequence[int]) -> None:
        """Record the answers (1 yes, 0 no) to one question; a question without all answers does not count."""
        if self._mostly_no and not any(answers):
            answers = ()
        if len(answers) >= MIN_ANSWERS and min(answers) >= 0:
            self._lists[tuple(answers)] += 1

    def fault(self) -> str | None:
        """The fault of the judge, as "19 of 20 replies ...", or None."""
        n_questions = self._lists.total()
        if n_questions < MIN_QUESTIONS:
            return None
        n_no, n_yes = self._count(lambda a: not any(a)), self._count(all)
        n_example = self._count(lambda a: a == self._example[: len(a)])
        n_alternating = self._count(lambda a: all(x != y for x, y in pairwise(a)))
        most_common, n_same = self._lists.most_common(1)[0]
        listed = ", ".join(map(str, most_common))
        for count, words in (
            (n_no, "answer no to every passage"),
            (n_yes, "answer yes to every passage"),
            (n_no + n_yes, "give all passages of a question the same answer"),
            (n_example, "repeat the example of the prompt"),
            (n_alternating, "answer yes and no in turn"),
            (n_same, f"are the list {listed}, whatever the passages are"),
        ):
            if count >= SUSPECT_SHARE * n_questions:
                return f"{count} of {n_questions} replies {words}"
        return None

    def _count(self, is_meant: Callable[[tuple[int, ...]], bool]) -> int:
        return sum(n for answers, n in self._lists.items() if is_meant(answers))
