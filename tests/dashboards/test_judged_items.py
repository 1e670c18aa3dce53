"""Judged items: what a judge answered, what a scorer measured, and what is missing."""

from typing import Any

import pytest

from dashboards.components.explanation_parts import judgement_table
from dashboards.components.markup import strings

ITEM = {"item": 0, "scorer": "detection", "judge": "m", "band": "top", "rank": 3, "truth": True}
ITEM |= {"answer": None, "margin": None, "probability": None}


def said(**fields: Any) -> list[str]:
    drawn = judgement_table([{**ITEM, **fields}], [], 5)
    return [text for text in strings(drawn) if text.strip()]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"answer": True}, "yes"),
        ({"answer": False}, "no"),
        ({}, "no answer"),
        ({"margin": 0.8471}, "0.847"),
        ({"answer": False, "margin": -2.0}, "no"),
    ],
)
def test_an_item_shows_the_answer_or_the_number(fields: dict[str, Any], expected: str) -> None:
    assert expected in said(**fields)
