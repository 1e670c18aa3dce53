"""A score is never shown without its chance level and interval."""

from typing import Any

import pytest

from dashboards.components.feature_parts import headline, label_row
from dashboards.components.markup import Node, strings
from dashboards.components.scores import (
    NO_BETTER,
    NOT_KNOWN,
    NOT_SCORED,
    Score,
    label_verdict,
    score_block,
)


def _said(score: Score) -> str:
    return " ".join(strings(score_block(score)))


def _opened(node: Node) -> list[str]:
    """What the buttons in a node open."""
    if isinstance(node, str):
        return []
    own = [dict(node.attributes).get("title", "")] if node.tag == "button" else []
    return own + [said for child in node.children for said in _opened(child)]


def test_value_interval_chance_and_n_are_all_there() -> None:
    score = Score(0.84, 0.75, 0.91, 0.51, 40, True)
    assert _said(score).split() == ["0.84", "0.75–0.91", "chance", "0.51,", "n", "=", "40"]
    (meaning,) = _opened(score_block(score, brief=True))
    assert "0.75 to 0.91" in meaning


def test_a_score_says_what_it_is_and_where_its_chance_lies() -> None:
    for metric, words, chance in (
        ("balanced_accuracy", "Balanced accuracy", 0.5),
        ("auroc", "AUROC", 0.5),
        ("correlation", "Correlation", 0.0),
    ):
        score = Score(0.84, 0.75, 0.91, None, 40, True, metric)
        (meaning,) = _opened(score_block(score, brief=True))
        assert meaning.startswith(words)
        assert score.chance_level == chance


def test_no_better_than_chance_is_said_in_words() -> None:
    """As the views say it: an interval above the mark is not enough where chance itself is not known well."""
    assert NO_BETTER in _said(Score(0.6, 0.52, 0.7, 0.5, 40, False))
    assert NOT_KNOWN in _said(Score(0.6, 0.52, 0.7, 0.5, 40, None))
    assert NO_BETTER not in _said(Score(0.6, 0.51, 0.7, None, 40, True))
    assert _said(Score(None, None, None, None, None)) == NOT_SCORED


@pytest.mark.parametrize(
    ("verdict", "above", "not_above", "said"),
    [
        (None, None, None, None),
        ("not above chance", [], ["frozen_decoder"], "not above chance"),
        ("above chance, no floor measured", [], [], "above chance, no floor measured"),
        (
            "above chance only",
            ["random_weights"],
            ["single_token", "random_directions"],
            "above chance only : no better than its best single token, labels of random directions",
        ),
        (
            "above all floors",
            ["random_weights"],
            [],
            "above all floors : better than labels on the model with random weights",
        ),
    ],
)
def test_a_label_is_compared_with_its_floors_in_words(
    verdict: str | None, above: Any, not_above: Any, said: str | None
) -> None:
    drawn = label_verdict({"verdict": verdict, "floors_above": above, "floors_not_above": not_above})
    assert (None if drawn is None else " ".join(strings(drawn))) == said


def test_the_headline_is_what_the_view_chose() -> None:
    rows = [
        {"explanation_id": "a", "value": 0.99, "is_headline": False},
        {"explanation_id": "a", "value": 0.7, "is_headline": True},
        {"explanation_id": "b", "value": 0.9, "is_headline": True},
    ]
    assert headline(rows, "a") == rows[1]
    assert headline(rows, "c") is None
    explanations = [{"explanation_id": "b", "is_label": False}, {"explanation_id": "a", "is_label": True}]
    assert label_row(explanations) == explanations[1]
    assert label_row([]) is None
