"""A score with its chance level and interval: as text, and as a bar."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dashboards import figures
from dashboards.components import definitions
from dashboards.components.blocks import term
from dashboards.components.markup import Element, el

NO_BETTER = "no label better than chance"
NOT_KNOWN = "chance unknown: too few shuffled labels"
NOT_SCORED = "not scored yet"
MEANINGS = {
    "balanced_accuracy": "Balanced accuracy: mean of the shares of firing and of silent examples that the "
    "label predicts",
    "auroc": "AUROC: share of pairs of a firing and a silent example in the right order",
    "correlation": "Correlation of the activations predicted from the label with the true ones",
}
FLOOR_NAMES = {
    "single_token": "its best single token",
    "random_directions": "labels of random directions",
    "frozen_decoder": "labels of a dictionary with a random frozen decoder",
    "random_weights": "labels on the model with random weights",
}


@dataclass(frozen=True, slots=True)
class Score:
    """Score of a label with its 95 % interval, the score of shuffled labels, and items judged."""

    value: float | None
    low: float | None
    high: float | None
    chance: float | None
    n: int | None
    above_chance: bool | None = None
    """Whether the value is above chance, according to the views; None if that is unknown."""
    metric: str = "balanced_accuracy"
    """What the value is: balanced_accuracy, auroc or correlation."""

    @property
    def chance_level(self) -> float:
        """The measured chance level, else that of the metric: 0 for a correlation, else one half."""
        if self.chance is not None:
            return self.chance
        return 0.0 if self.metric == "correlation" else 0.5


def explanation_of(score: Score) -> str:
    """The explanation of a score when it is opened."""
    return (
        f"{MEANINGS.get(score.metric, score.metric)}, on documents the explainer did not see. 95 % interval "
        f"{figures.decimal(score.low)} to {figures.decimal(score.high)}, chance "
        f"{figures.decimal(score.chance_level)} (shuffled labels), n = {figures.count(score.n)} judged "
        "examples."
    )


def _left(share: float) -> str:
    return f"{100 * min(1.0, max(0.0, share)):.1f}%"


def score_bar(score: Score) -> Element:
    """Only the bar: value, interval and the mark of chance on a scale from 0 to 1."""
    value, low, high = score.value or 0.0, score.low, score.high
    interval = None
    if low is not None and high is not None:
        width = f"{100 * max(0.0, high - low):.1f}%"
        interval = el("span", cls="interval", style=f"left:{_left(low)};width:{width}")
    return el(
        "div",
        el("span", cls="fill", style=f"width:{_left(value)}"),
        interval,
        el("span", cls="chance", style=f"left:{_left(score.chance_level)}"),
        cls="track",
        aria_hidden="true",
    )


def score_block(score: Score, *, brief: bool = False) -> Element:
    """Value, bar and text; ``brief`` leaves out the sentence, as in a table."""
    if score.value is None:
        return el("span", NOT_SCORED, cls="quiet small")
    interval = figures.between(figures.decimal(score.low), figures.decimal(score.high))
    value = el(
        "span",
        term(figures.decimal(score.value), explanation_of(score)),
        " ",
        el("span", interval, cls="quiet small"),
        cls="value",
    )
    words = {True: None, False: NO_BETTER, None: NOT_KNOWN}[score.above_chance]
    if not brief:
        measured = f"chance {figures.decimal(score.chance_level)}, n = {figures.count(score.n)}"
        words = measured if words is None else f"{words} ({measured})"
    return el(
        "div",
        value,
        score_bar(score),
        el("span", words, cls="words") if words else None,
        cls="score" if score.above_chance else "score none",
    )


def label_verdict(row: Mapping[str, Any]) -> Element | None:
    """What the label on a feature's card is better than, in words; nothing without a verdict.

    Args:
        row: ``verdict``, ``floors_above`` and ``floors_not_above`` of ``feature_cards``.
    """
    verdict = row["verdict"]
    if verdict is None:
        return None
    said = term(str(verdict), definitions.FLOORS)
    named = row["floors_above"] if verdict == "above all floors" else row["floors_not_above"]
    names = ", ".join(FLOOR_NAMES.get(floor, floor) for floor in named or ())
    if verdict == "above all floors":
        names = f": better than {names}"
    elif verdict == "above chance only":
        names = f": no better than {names}"
    else:
        names = ""
    return el("div", said, names or None, cls="small")
