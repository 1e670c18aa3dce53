"""Absorption and splitting on codes written by hand, and the first-letter suite on a planted world."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tasks.evaluation.absorption import absorption, main_latents
from tasks.evaluation.letters import word_begun
from tasks.evaluation.probe import f1_score
from tasks.evaluation.suite import Subject, run_suite
from tasks.evaluation.suites.first_letter import FRACTION, FirstLetterConfig, _metrics
from tasks.evaluation.word_shares import Score, Words, f1_of, mean_of, mean_score

# Latent 0 is the label's own; 1 carries 0.8 of it and something of its own; 2 has nothing to do with it.
W_DEC = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
PROBE = np.array([2.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("codes", "projection", "fraction", "full"),
    [
        ([2.0, 0.0, 5.0], 2.0, 0.0, False),  # the main latent gives all
        ([0.0, 2.5, 0.0], 2.0, 1.0, True),  # another gives all: 2.5 * 0.8 = 2
        ([0.0, 0.9, 0.0], 2.0, 0.0, False),  # 0.72 of 2 is less than 0.4
        ([1.0, 1.25, 0.0], 2.0, 0.5, False),  # half each, and the main latent is active
        ([1.0, 5.0, 0.0], 2.0, 0.5, False),  # no more than what is missing counts
        ([0.0, 2.5, 0.0], -2.0, 0.0, False),  # the probe's side is negative
        ([0.0, 0.0, 9.0], 2.0, 0.0, False),  # nothing along the probe at all
    ],
)
def test_absorption_by_hand(codes: list[float], projection: float, fraction: float, full: bool) -> None:
    x = np.array([[projection, 0.3, -0.2]])
    found = absorption(np.array([codes]), W_DEC, x, PROBE, [0])
    assert found.fraction_N[0] == pytest.approx(fraction)
    assert bool(found.full_N[0]) is full


def test_a_label_split_into_two_latents_counts_two() -> None:
    random = np.random.default_rng(0)
    y = random.random(400) < 0.5
    which = random.random(400) < 0.5
    codes = np.stack([y & which, y & ~which, random.random(400) < 0.5], axis=1).astype(float)
    n_main, answers = main_latents(codes[:200], y[:200], codes[200:], y[200:])
    assert n_main == 2
    scores = [f1_score(answers_N, y[200:]) for answers_N in answers]
    assert scores[0] < 0.75 < 0.99 < scores[1]
    whole = np.stack([y, which, ~which], axis=1).astype(float)
    assert main_latents(whole[:200], y[:200], whole[200:], y[200:])[0] == 1


@pytest.mark.parametrize(
    ("text", "span", "word"),
    [
        ("see cat", (3, 7), "cat"),
        ("see cat", (4, 7), "cat"),
        ("Cats", (0, 3), "cat"),
        ("concat", (3, 6), None),
        ("my_cat", (3, 6), None),
        ("2cat", (1, 4), None),
        ("a + b", (1, 3), None),
        ("été", (0, 3), None),
        ("   ", (0, 3), None),
    ],
)
def test_which_tokens_begin_a_word(text: str, span: tuple[int, int], word: str | None) -> None:
    assert word_begun(text, *span) == word


def rows_of(subject: Subject, **fields: Any) -> dict[tuple[str, str], dict[str, Any]]:
    table = run_suite(subject, FirstLetterConfig(**{"max_main": 4, **fields})).metrics
    rows = {(row["metric"], row["variant"]): row for row in table.to_pylist()}
    for row in rows.values():
        row["control"] = json.loads(row["control"]) if row["control"] else {}
    return rows


def test_a_dictionary_with_letter_latents_absorbs_nothing(subject: Subject) -> None:
    rows = rows_of(subject)
    assert rows["first_letter_probe_f1", ""]["value"] > 0.99
    assert rows["first_letter_sparse_f1", "k1"]["value"] > 0.97
    assert rows["split_latents", ""]["value"] == 1
    assert rows["absorption_fraction", ""]["value"] < 0.02
    assert {variant for metric, variant in rows if metric == "absorption_full"} == {"", "a", "b", "c"}


def test_letters_absorbed_by_words_are_counted(subject: Subject, world: Any, make_dictionary: Any) -> None:
    """Words in ka and lo have latents that carry their letter as well; its own is silent there."""
    directions, encoder = world.directions.copy(), world.directions.copy()
    absorbed = [5 + 5 * letter + end for letter in range(3) for end in (0, 1)]
    for latent in absorbed:
        letter = 2 + (latent - 5) // 5
        directions[latent] = (world.directions[latent] + world.directions[letter]) / np.sqrt(2)
        encoder[letter] -= 5 * world.directions[latent]
    lossy = replace(subject, dictionary=make_dictionary(directions, 4, encoder=encoder))
    rows = rows_of(lossy, max_main=1)
    full = rows["absorption_full", ""]
    assert 0.3 < full["value"] < 0.5, "two words of five"
    assert rows["absorption_fraction", ""]["value"] == pytest.approx(full["value"], abs=0.05)
    assert full["value"] > full["control"]["random"]
    assert rows["first_letter_sparse_f1", "k1"]["value"] < 0.85


def test_a_corpus_without_words_is_null_with_the_reason(subject: Subject) -> None:
    rows = rows_of(replace(subject, texts=["1 + 2" for _ in subject.texts]))
    assert rows["absorption_full", ""]["value"] is None
    assert "fewer than two letters" in rows["absorption_full", ""]["note"]


def test_the_limit_of_a_poor_probe_is_that_of_saebench(subject: Subject) -> None:
    """The limit itself is poor, as in SAEBench; the letter keeps its own row."""
    assert FirstLetterConfig().min_probe_f1 == 0.6
    rows = rows_of(subject)
    worst, *others = sorted(rows["first_letter_probe_f1", letter]["value"] for letter in "abc")
    n_good = sum(f1 > worst for f1 in others)
    limited = rows_of(subject, min_probe_f1=worst)
    said = f"mean over {n_good} of 3 letters" if n_good else "the probe is good for no letter"
    assert said in limited[FRACTION, ""]["note"]
    assert (FRACTION, "a") in limited


def test_letters_with_a_poor_probe_are_no_part_of_the_mean() -> None:
    own = {letter: {FRACTION: Score(value, 10)} for letter, value in (("a", 0.1), ("b", 0.3), ("z", 1.0))}
    rows = {(row.metric, row.variant): row for row in _metrics(own, own, good={"a", "b"})}
    assert rows[FRACTION, ""].value == pytest.approx(0.2)
    assert rows[FRACTION, ""].n == 20
    assert rows[FRACTION, ""].control["random"] == pytest.approx(0.2)
    assert rows[FRACTION, ""].note == "mean over 2 of 3 letters: the others have a poor probe"
    assert rows[FRACTION, "z"].value == 1.0
    none = {(row.metric, row.variant): row for row in _metrics(own, own, good=set())}
    assert none[FRACTION, ""].value is None
    assert none[FRACTION, ""].note == "the probe is good for no letter"


def test_scores_of_words_are_their_ratios_and_words_are_the_units() -> None:
    """Ten words of five tokens each, all alike: tokens would give an interval that is too narrow."""
    words = Words.of([f"w{number:02d}" for number in range(10) for _ in range(5)])
    values = np.repeat([0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0], 5)
    score = mean_of(words, values, np.ones(50, bool))
    assert score.value == pytest.approx(0.6)
    low, high, n = score.interval() or (None, None, 0)
    assert n == 10
    assert low is not None
    assert high is not None
    assert high - low > 2 * 1.96 * values.std() / np.sqrt(10) * 0.95
    truth, predicted = values > 0, np.roll(values > 0, 5)
    f1 = f1_of(words, predicted, truth, 50)
    assert f1.above_W is not None
    assert f1.below_W is not None
    assert f1.value == pytest.approx(f1.above_W.sum() / f1.below_W.sum()) == f1_score(predicted, truth)
    value, n_tokens, interval = mean_score([score, f1])
    assert value == pytest.approx((score.value + f1.value) / 2)
    assert n_tokens == 100
    assert interval is not None
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < value < interval.high
    assert mean_score([score, Score(2.0, 5)])[2] is None, "a number of latents is no ratio"
