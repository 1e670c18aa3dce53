"""Models and dictionaries on the overview: one word has one value, and the order says what it goes by."""

import json
from collections import defaultdict
from typing import Any

import pytest

from dashboards.components import measures
from dashboards.components.markup import Element, strings
from dashboards.components.overview_parts import alarms, dictionary_cards, massive, model_sections, troubles

MODEL = {
    "model_id": "m",
    "architecture": "llama",
    "n_parameters": 1_000,
    "n_layers": 2,
    "n_activation_sets": 2,
    "n_valid_tokens": 174_000,
}


def dictionary(alias: str, ranked: float | None, by: str = "all tokens") -> dict[str, Any]:
    known = {"alias": f"m/{alias}", "model_id": "m", "hookpoint": "h", "is_current": True, "d_sae": 8}
    told = {"architecture": "topk", "origin": "trained", "verified": True, "n_alive": 6, "n_dense": 0}
    counted = {"n_features": 8, "n_unseen": 2, "fvu": ranked, "fvu_ranked": ranked, "fvu_ranked_by": by}
    return defaultdict(lambda: None, {**known, **told, **counted})


def said(element: Element) -> str:
    """All text, in order."""
    return " ".join(strings(element))


def test_cards_are_in_the_order_of_the_fvu_that_ranks() -> None:
    rows = [dictionary("c", None), dictionary("b", 0.4), dictionary("a", 0.2)]
    names = [text for text in strings(dictionary_cards(rows)) if text in "abc"]
    assert names == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (("all tokens", "all tokens"), "at each hookpoint ranked by FVU of all tokens"),
        (("without massive tokens",) * 2, "ranked by FVU without massive tokens"),
        (("all tokens", "without massive tokens"), "without massive tokens where there are any"),
    ],
)
def test_the_page_says_by_which_fvu_it_ranks(by: tuple[str, str], expected: str) -> None:
    rows = [dictionary(name, 0.3, which) for name, which in zip("ab", by, strict=True)]
    assert expected in said(model_sections([MODEL], rows))
    assert "ranked" not in said(model_sections([MODEL], rows[:1])), "one alone has no rank"


@pytest.mark.parametrize(
    ("multiple", "share", "expected"),
    [
        (20.0, 0.01, "are left out of everything: norms over 20.0 times the median, 1.0 % of the tokens."),
        (None, None, "are left out of everything."),
    ],
)
def test_the_page_says_above_which_norm_tokens_are_left_out(
    multiple: float | None, share: float | None, expected: str
) -> None:
    row = {
        **dict.fromkeys(("model_id", "hookpoint"), "a"),
        "n_massive": 3,
        "n_valid_tokens": 100,
        "max_norm": 90.0,
        "median_norm": 1.0,
        "massive_share": 0.9,
        "massive_positions": [],
        "massive_tokens": "drop",
    }
    (notice,) = massive([{**row, "sink_norm_multiple": multiple, "masked_share": share}])
    assert said(notice).endswith(expected)


def test_tokens_of_several_sets_are_not_added_up() -> None:
    assert "tokens in the largest of 2 activation sets" in said(model_sections([MODEL], []))


def test_a_measure_on_eval_tokens_has_another_name_than_the_count_on_the_whole_set() -> None:
    assert "unseen" in list(strings(dictionary_cards([dictionary("a", 0.3)])))
    assert "unseen" not in {measure.name for measure in (*measures.CORE, *measures.SUITES)}


def run(summary: dict[str, Any], state: str = "completed") -> dict[str, Any]:
    return {"run_id": "r", "state": state, "error": None, "summary": json.dumps(summary), "started_at": None}


def test_a_run_that_its_budget_ended_says_what_is_left() -> None:
    (notice,) = troubles([run({"stages": [], "ended": "4 minutes are over", "left": ["mine_examples d"]})])
    assert "Ended by its budget: 4 minutes are over." in said(notice)
    assert "mine_examples d" in said(notice)
    assert list(troubles([run({"stages": []})])) == []


def test_alarms_are_named_with_what_was_expected() -> None:
    row = {"run_id": "r", "about": "m/h/topk", "metric": "fvu", "value": 0.4, "expected": 0.2}
    row |= {"tolerance": 0.01, "n_before": 8}
    (notice,) = alarms([row])
    assert "One metric is out of the range of the nights before:" in said(notice)
    words = " ".join(said(notice).split())
    assert "fvu of m/h/topk is 0.400, expected 0.200 ± 0.0100 after 8 trainings." in words
    (many,) = alarms([row] * 9)
    assert "and 3 more" in said(many)
    assert list(alarms([])) == []


@pytest.mark.parametrize(
    ("n_floors", "n_above", "expected"),
    [(0, None, None), (1, 3, "above its floor"), (4, 3, "above all 4 floors")],
)
def test_a_card_says_how_many_labels_are_above_how_many_floors(
    n_floors: int, n_above: int | None, expected: str | None
) -> None:
    row = dictionary("a", 0.2) | {"n_above_floors": n_above, "n_floors": n_floors}
    drawn = said(dictionary_cards([defaultdict(lambda: None, row)]))
    assert ("floor" in drawn) is (expected is not None)
    assert expected is None or f"{expected} 50 %" in drawn
