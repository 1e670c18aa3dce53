"""A score is never shown without its chance level and interval."""

from dashboards.components.feature_parts import best_score
from dashboards.components.markup import Element, strings
from dashboards.components.scores import NO_BETTER, NOT_SCORED, Score, score_block


def _said(score: Score) -> str:
    return " ".join(strings(score_block(score)))


def _title(node: Element) -> str:
    return dict(node.attributes)["title"]


def test_value_interval_chance_and_n_are_all_there() -> None:
    score = Score(0.84, 0.75, 0.91, 0.51, 40)
    assert _said(score).split() == ["0.84", "0.75–0.91", "chance", "0.51,", "n", "=", "40"]
    assert "0.75 to 0.91" in _title(score_block(score, brief=True))


def test_no_better_than_chance_is_said_in_words() -> None:
    assert NO_BETTER in _said(Score(0.6, 0.49, 0.7, 0.5, 40))
    assert NO_BETTER in _said(Score(0.6, None, None, None, 40))
    assert NO_BETTER not in _said(Score(0.6, 0.51, 0.7, None, 40))
    assert _said(Score(None, None, None, None, None)) == NOT_SCORED


def test_the_best_score_is_against_the_hardest_negatives() -> None:
    def row(
        explanation: str, variant: str, low: float, metric: str = "balanced_accuracy"
    ) -> dict[str, object]:
        return {
            "explanation_id": explanation,
            "variant": variant,
            "ci_low": low,
            "value": low + 0.1,
            "metric": metric,
        }

    rows = [
        row("a", "random", 0.9),
        row("a", "neighbour", 0.6),
        row("b", "random", 0.7),
        row("c", "neighbour", 0.99, metric="precision"),
    ]
    assert best_score(rows) == rows[2]
    assert best_score(rows, "a") == rows[1]
    assert best_score([]) is None
