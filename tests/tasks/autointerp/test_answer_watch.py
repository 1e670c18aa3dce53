"""Judges whose answers do not depend on the passages are found and named; others are left alone."""

import random

import pytest

from tasks.autointerp.answer_watch import MIN_QUESTIONS, AnswerWatch

EXAMPLE = [0, 1, 0, 1, 0]


def fault(lists: list[list[int]]) -> str | None:
    watch = AnswerWatch(EXAMPLE)
    for answers in lists:
        watch.add(answers)
    return watch.fault()


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ([[1] * 5] * 24, "24 of 24 replies answer yes to every passage"),
        ([[0] * 5, [0] * 4] * 12, "answer no to every passage"),
        ([[1] * 5, [0] * 5] * 12, "give all passages of a question the same answer"),
        ([EXAMPLE, EXAMPLE[:4]] * 12, "repeat the example of the prompt"),
        ([[1, 0, 1, 0, 1], EXAMPLE] * 12, "answer yes and no in turn"),
        ([[1, 0, 0, 0, 0]] * 24, "are the list 1, 0, 0, 0, 0, whatever the passages are"),
        ([*[[1] * 5] * 23, [1, 0, 0, 1, 0]], "23 of 24 replies answer yes"),
    ],
)
def test_a_blind_judge_is_named(lists: list[list[int]], said: str) -> None:
    found = fault(lists)
    assert found is not None
    assert said in found


@pytest.mark.parametrize("share", [0.15, 0.5, 0.85])
def test_judges_that_read_are_left_alone(share: float) -> None:
    """Even one whose explanation nearly always, or hardly ever, seems to fit."""
    for seed in range(50):
        rng = random.Random(seed)
        assert fault([[int(rng.random() < share) for _ in range(5)] for _ in range(MIN_QUESTIONS)]) is None


def test_few_questions_and_unanswered_ones_prove_nothing() -> None:
    assert fault([[1] * 5] * (MIN_QUESTIONS - 1)) is None
    assert fault([[1, 1]] * 100) is None
    assert fault([[-1] * 5] * 100) is None
