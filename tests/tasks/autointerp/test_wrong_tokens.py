"""Contexts that fire, marked where they do not: fuzzing tests tokens, and not the topic of a context."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.autointerp.borrowed_marks import borrow
from tasks.autointerp.records import read_evidence
from tasks.autointerp.scorers.fuzzing import FuzzingConfig, FuzzingScorer
from tests.fakes.openai_server import Answer, FakeOpenAI, Question, answers
from tests.tasks.autointerp.planted import FAMILIES, Corpus, distinct, examples, features
from tests.tasks.autointerp.test_judging import balanced, oracle, run

N = 24


def by_topic(question: Question) -> Answer:
    """Looks for the word in the context, wherever the marks are."""
    word = question.explanation.split()[-1]
    shown = [re.sub("[«»]", "", text) for text in question.passages]
    return answers([re.search(rf"{word}\b", text) is not None for text in shown])


def by_variant(rows: list[dict[str, Any]], field: str) -> dict[str, set[Any]]:
    found: dict[str, set[Any]] = {}
    for row in rows:
        found.setdefault(row["variant"], set()).add(row[field])
    return found


def test_a_judge_that_knows_the_topic_alone_is_at_a_half_against_wrong_tokens(tmp_path: Path) -> None:
    sizes = {"n_firing": 8, "n_random": 6, "n_neighbour": 5, "n_wrong": 4, "shuffles": 1}
    for name, brain, expected in (("topic", by_topic, 0.5), ("oracle", oracle, 1.0)):
        with FakeOpenAI(brain) as fake:
            scored = run(fake, tmp_path / name, "fuzzing", n=N, **sizes)
        rows = balanced(scored)
        values = by_variant(rows, "value")
        assert values["wrong_tokens"] == {expected}
        assert values["mixed"] == values["random"] == {1.0}
        assert by_variant(rows, "n") == {
            "random": {14},
            "neighbour": {13},
            "wrong_tokens": {12},
            "mixed": {19},
        }
        above = [row["above_chance"] for row in rows if row["variant"] == "wrong_tokens"]
        assert above == [expected == 1.0] * N
        judged = scored.judgements.to_pylist()
        fires = [row for row in judged if row["band"] in ("top", "q2")]
        assert len(fires) == 12 * N
        assert sum(row["truth"] for row in fires) == 8 * N


def test_wrong_marks_avoid_what_fires() -> None:
    """Digits fire several times in a context; the borrowed marks stand on none of them."""
    table = examples(Corpus(seed=2, n_documents=80), [FAMILIES["digits"], FAMILIES["casing"]])
    for feature in read_evidence(features(2), [table]):
        scorer = FuzzingScorer(FuzzingConfig(endpoint="none", n_wrong=20))
        items = scorer.items(feature)
        wrong = np.flatnonzero(items.kind_I == "wrong_tokens")
        assert len(wrong) == 20
        assert not items.truth_I[wrong].any()
        assert len(set(items.row_I.tolist())) == len(items), "no context is shown twice"
        marks = scorer._marks(feature, items)
        active = feature.windows.take(items.row_I).firing()
        assert marks[wrong].any(axis=1).all()
        assert not (marks & active)[wrong].any()
        assert (marks & active)[items.truth_I].any(axis=1).all()


def test_marks_go_elsewhere_only_where_they_must() -> None:
    tokens = [[" a", " b", " c", " d"]] * 2
    marked = np.asarray([[False, True, False, False], [False, True, False, False]])
    truth = np.asarray([True, False])
    rng = np.random.default_rng(0)
    assert borrow(tokens, marked, truth, rng)[1].tolist() == [False, True, False, False]
    avoiding = borrow(tokens, marked, truth, rng, marked)[1]
    assert avoiding.sum() == 1
    assert not avoiding[1]


def test_a_feature_that_fires_everywhere_has_no_wrong_tokens() -> None:
    table = distinct(1).to_pylist()
    for row in table:
        row["activations"] = [float(row["max_activation"])] * 5
    (feature,) = read_evidence(features(1), [pa.Table.from_pylist(table)])
    items = FuzzingScorer(FuzzingConfig(endpoint="none", n_firing=6, n_wrong=5)).items(feature)
    assert "wrong_tokens" not in items.kind_I
    assert int(items.truth_I.sum()) == 6
