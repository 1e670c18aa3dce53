"""Precision where few contexts fire: counted, by its formula, with an interval that holds, and its nulls."""

import math
from pathlib import Path

import numpy as np
import pytest

from tasks.autointerp.metrics import Interval, confusion
from tasks.autointerp.prevalence import (
    AtPrevalence,
    precision,
    precision_interval,
    precision_variance,
    ratio_interval,
)
from tests.fakes.openai_server import Answer, FakeOpenAI, Question, answers
from tests.tasks.autointerp.null_judges import JUDGES, headline_rows, oracle, rows_of
from tests.tasks.autointerp.test_judging import oracle as knows
from tests.tasks.autointerp.test_judging import run

AT_TENTH = AtPrevalence(0.1, 0.8, 0.8)


def test_at_the_prevalence_of_the_items_it_is_the_share_of_hits_among_yes() -> None:
    """1:9, 8 of 10 found and 6 of 90 false alarms: 8 / 14, and twice as many silent items change nothing."""
    truth = np.asarray([True] * 10 + [False] * 90)
    given = np.asarray([[1] * 8 + [0] * 2 + [1] * 6 + [0] * 84], np.int8)
    assert precision(confusion(given, truth), 0.1)[0] == pytest.approx(8 / 14)
    doubled = np.concatenate([given, given[:, 10:]], axis=1)
    twice = confusion(doubled, np.concatenate([truth, truth[10:]]))
    assert precision(twice, 0.1)[0] == pytest.approx(8 / 14)
    assert precision(twice, 10 / 190)[0] == pytest.approx(8 / 20)


def test_ratio_by_hand_and_at_its_ends() -> None:
    """A known denominator leaves the interval of the numerator; no false alarm leaves 0 as the low end."""
    assert ratio_interval(0.2, Interval(0.1, 0.4), 0.5, Interval(0.5, 0.5)) == pytest.approx((0.2, 0.8))
    low, high = ratio_interval(0.0, Interval(0.0, 0.2), 0.5, Interval(0.5, 0.5))
    assert (low, high) == pytest.approx((0.0, 0.4))
    assert ratio_interval(0.2, Interval(0.1, 0.4), 0.0, Interval(0.0, 0.3)).high == math.inf


@pytest.mark.parametrize(("recall", "alarms"), [(0.8, 0.05), (0.5, 0.2), (0.95, 0.02)])
def test_interval_covers_the_truth_about_as_often_as_it_says(recall: float, alarms: float) -> None:
    rng = np.random.default_rng(0)
    truth = np.asarray([True] * 20 + [False] * 90)
    given = (rng.random((2_000, 110)) < np.where(truth, recall, alarms)).astype(np.int8)
    true_value = 0.1 * recall / (0.1 * recall + 0.9 * alarms)
    bounds = [precision_interval(confusion(given[i : i + 1], truth), 0.1) for i in range(len(given))]
    assert 0.925 <= np.mean([b.low <= true_value <= b.high for b in bounds]) <= 0.99


def test_variance_is_that_of_repeated_draws() -> None:
    rng = np.random.default_rng(0)
    truth = np.asarray([True] * 40 + [False] * 360)
    counts = confusion((rng.random((4_000, 400)) < np.where(truth, 0.7, 0.1)).astype(np.int8), truth)
    assert precision_variance(counts, 0.1).mean() == pytest.approx(precision(counts, 0.1).var(), rel=0.1)


@pytest.mark.parametrize("judge", ["coin", "sceptic", "yes", "no", "alternating", "looks", "noisy looks"])
def test_a_judge_that_knows_nothing_has_the_prevalence_as_precision(judge: str) -> None:
    n = 400
    rows = rows_of(JUDGES[judge], n, sizes=(10, 90, 0), measures=(AT_TENTH,))
    chosen = [row for row in headline_rows(rows, "random", "precision") if row["value"] is not None]
    assert bool(chosen) is (judge != "no")
    assert all(row["chance"] >= 0.1 for row in chosen)
    assert (
        np.mean([bool(row["above_chance"]) for row in chosen] or [0])
        <= 0.025 + 3 * (0.025 * 0.975 / n) ** 0.5
    )
    if judge in ("coin", "yes", "alternating"):
        assert np.mean([row["value"] for row in chosen]) == pytest.approx(0.1, abs=0.01)
    if judge != "looks":
        assert not any(row["confident"] for row in headline_rows(rows, "random", "precision"))


def test_a_judge_that_knows_is_confident() -> None:
    rows = headline_rows(rows_of(oracle, 50, sizes=(10, 90, 0), measures=(AT_TENTH,)), "random", "precision")
    assert {(row["value"], row["confident"], row["prevalence"]) for row in rows} == {(1.0, True, 0.1)}
    assert all(row["ci_low"] < 0.9 for row in rows), "90 silent contexts leave room for false alarms"


def test_items_of_one_class_give_rows_without_a_value() -> None:
    rows = rows_of(oracle, 3, sizes=(10, 0, 0), measures=(AT_TENTH,))
    assert {(row["value"], row.get("confident"), row["n"]) for row in rows} == {(None, None, 0)}


def too_generous(question: Question) -> Answer:
    """Finds everything, and takes the first silent passage of each question for a hit as well."""
    right = knows(question)
    assert isinstance(right, str)
    found = [int(c) for c in right if c in "01"]
    if 0 in found:
        found[found.index(0)] = 1
    return answers(found)


def test_recall_without_precision_is_not_confident(tmp_path: Path) -> None:
    """Two contexts fire and six are silent; the rows state the precision at 1:9."""
    shared = {"n_firing": 2, "n_random": 6, "n_neighbour": 0, "items_per_call": 4, "shuffles": 1}
    for judge, brain, expected in (("generous", too_generous, False), ("oracle", knows, True)):
        with FakeOpenAI(brain) as fake:
            scored = run(fake, tmp_path / judge, "precision_recall", n=20, **shared)
        rows = [row for row in scored.scores.to_pylist() if row["variant"] == "random"]
        by_metric = {
            metric: [r for r in rows if r["metric"] == metric] for metric in ("precision", "f1", "recall")
        }
        assert {row["confident"] for row in by_metric["precision"]} == {expected}
        assert {row["confident"] for row in by_metric["recall"]} == {None}
        assert {row["value"] for row in by_metric["recall"]} == {1.0}
        assert {row["prevalence"] for row in by_metric["precision"]} == {0.1}
        expected_value = 1.0 if expected else 0.1 / (0.1 + 0.9 * 2 / 6)
        assert {round(row["value"], 9) for row in by_metric["precision"]} == {round(expected_value, 9)}


def test_a_judge_that_says_no_is_not_stopped_where_no_is_the_likely_answer(tmp_path: Path) -> None:
    shared = {"n_firing": 2, "n_random": 6, "n_neighbour": 0, "shuffles": 1}
    for value, stops in ((0, False), (1, True)):
        with FakeOpenAI(lambda q, value=value: answers([value] * len(q.passages))) as fake:  # type: ignore[misc]
            scored = run(fake, tmp_path / str(value), "precision_recall", n=30, **shared)
        assert scored.facts["complete"] is not stops
