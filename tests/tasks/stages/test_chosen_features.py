"""Explainers and scorers that work on some features: which, in which order, and the same ones again."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from catalog.connection import connect
from catalog.errors import UserError
from catalog.label_queue import check_choice, chosen_features
from catalog.ledger import StageOutcome
from tasks.autointerp.explainer import AnyExplainerConfig, ExplainerConfig
from tasks.autointerp.scorer import AnyScorerConfig, ScorerConfig
from tasks.stages.explain_features import ExplainUnit, explain_features
from tasks.stages.score_explanations import ScoreUnit, score_explanations
from tasks.support.policies import StageContext
from tests.fakes.openai_server import Answer, FakeOpenAI, Question, answers, explanation, refusal
from tests.tasks.stages.labelled import IDS, mined

N = 6
LAST_FIRST = {"order": "feature_index desc"}


def explainer(name: str = "lexical", **fields: Any) -> ExplainerConfig:
    return TypeAdapter[ExplainerConfig](AnyExplainerConfig).validate_python({"explainer": name, **fields})


def scorer(name: str = "predicate", **fields: Any) -> ScorerConfig:
    return TypeAdapter[ScorerConfig](AnyScorerConfig).validate_python({"scorer": name, **fields})


def features_of(root: Path, table: str, outcome: StageOutcome) -> list[int]:
    text = f"select distinct feature_index from {table} where fingerprint = $1 order by 1"
    with connect(root) as connection:
        return [index for (index,) in connection.execute(text, [outcome.fingerprint]).fetchall()]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"n_features": 2, **LAST_FIRST}, [4, 5]),
        ({"where": "feature_index in (1, 3)"}, [1, 3]),
        ({"where": "feature_index < 4 -- the first", "n_features": 1, **LAST_FIRST}, [3]),
        ({"where": "density > 0.5"}, []),
    ],
)
def test_the_features_that_are_asked_for_are_explained(
    tmp_path: Path, choice: dict[str, Any], expected: list[int]
) -> None:
    root = tmp_path / "catalogue"
    explained = explain_features.fn(StageContext(root, "r"), ExplainUnit(explainer(**choice), mined(root, N)))
    assert features_of(root, "explanations", explained) == expected
    assert (explained.facts["n_firing"], explained.facts["n_chosen"]) == (N, len(expected))
    assert explained.facts["complete"]


def test_a_rerun_finds_the_features_although_the_queue_changed(tmp_path: Path) -> None:
    """A label lowers the priority of its feature: without memory each run would choose the next ones."""
    root = tmp_path / "catalogue"
    context, unit = StageContext(root, "r"), ExplainUnit(explainer(n_features=2), mined(root, N))
    first = explain_features.fn(context, unit)
    labelled = features_of(root, "explanations", first)
    assert not set(labelled) & set(chosen_features(root, **IDS, n_features=2))
    assert not explain_features.fn(context, unit).recomputed
    forced = explain_features.fn(StageContext(root, "r", frozenset({"explain_features"})), unit)
    assert forced.recomputed
    assert set(features_of(root, "explanations", forced)) > set(labelled), "asked again, it takes the next"


def test_features_are_asked_about_in_order_of_value_and_the_same_ones_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, asked, is_paid = tmp_path / "catalogue", list[str](), list[bool]()

    def brain(question: Question) -> Answer:
        if len(asked) == 2 and not is_paid:
            return refusal("pay first", code="insufficient_quota", status=429)
        asked.append(re.findall(r"feat\d", question.text)[0])
        return explanation("a word")

    with FakeOpenAI(brain) as server:
        values = {"base_url": server.base_url, "model": "m", "probe": False, "attempts": 1, "concurrency": 1}
        for field, value in values.items():
            monkeypatch.setenv(f"FEATLAS_ENDPOINT_ONE_{field.upper()}", str(value))
        context = StageContext(root, "r")
        chosen = explainer("contexts", endpoint="one", n_features=4, **LAST_FIRST)
        unit = ExplainUnit(chosen, mined(root, N))
        stopped = explain_features.fn(context, unit)
        assert (asked, stopped.facts["complete"]) == (["feat5", "feat4"], False)
        is_paid.append(True)
        ended = explain_features.fn(context, unit)
    assert asked == ["feat5", "feat4", "feat3", "feat2"]
    assert ended.facts["complete"]
    assert features_of(root, "explanations", ended) == [2, 3, 4, 5]


def test_a_scorer_judges_the_chosen_features_against_donors_of_all(tmp_path: Path) -> None:
    root = tmp_path / "catalogue"
    context = StageContext(root, "r")
    explained = explain_features.fn(context, ExplainUnit(explainer(), mined(root, N)))
    scored = score_explanations.fn(context, ScoreUnit(scorer(n_features=1, **LAST_FIRST), explained))
    assert features_of(root, "scores", scored) == [5]
    with connect(root) as connection:
        donors = connection.execute("select distinct n_donors from scores").fetchall()
    assert set(donors) == {(N - 1,), (0,)}


def test_dictionaries_and_explainers_are_chosen_by_pattern_and_belong_to_no_fingerprint() -> None:
    facts = {"alias": "pico-a/blocks.2.resid_post/topk-x8-k16-s0", **IDS}
    assert explainer().takes(facts)
    assert explainer(dictionaries=["other", "*/topk-*"]).takes(facts)
    assert explainer(dictionaries=[IDS["dictionary_id"]]).takes(facts)
    assert not explainer(dictionaries=["*/pca*"]).takes(facts)
    assert scorer(explainers=["lex*"]).judges(facts, "lexical")
    assert not scorer(explainers=["contexts"]).judges(facts, "lexical")
    assert not scorer(dictionaries=["*/pca*"]).judges(facts, "lexical")
    routed = scorer(explainers=["lexical"], dictionaries=["*/topk-*"])
    assert (routed.canonical(), routed.tag()) == (scorer().canonical(), scorer().tag())


@pytest.mark.parametrize(
    ("where", "order"),
    [
        ("no_such_column > 1", "priority"),
        ("density >", "priority"),
        (None, "priority sideways"),
        ("true) --", "priority"),
        ("true); select (1", "priority"),
        ("true", "priority; select 1"),
        ("(select count(*) from read_csv('/etc/passwd')) > 0", "priority"),
        ("density", "(select 1 from read_text('/etc/passwd'))"),
    ],
)
def test_text_that_is_no_condition_is_one_sentence(where: str | None, order: str) -> None:
    with pytest.raises(UserError) as refused:
        check_choice(where, order)
    assert len(str(refused.value).splitlines()) == 1


def test_a_judge_is_asked_about_the_chosen_features_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "catalogue"
    context = StageContext(root, "r")
    explained = explain_features.fn(context, ExplainUnit(explainer(), mined(root, N)))
    with FakeOpenAI(
        lambda question: answers(["number1" in passage for passage in question.passages])
    ) as server:
        for field, value in {"base_url": server.base_url, "model": "m", "probe": False}.items():
            monkeypatch.setenv(f"FEATLAS_ENDPOINT_ONE_{field.upper()}", str(value))
        n_asked = []
        for choice in ({"n_features": 1}, {}):
            judge = scorer("detection", endpoint="one", **choice)
            scored = score_explanations.fn(context, ScoreUnit(judge, explained))
            assert len(features_of(root, "scores", scored)) == choice.get("n_features", N)
            n_asked.append(server.n_questions)
    assert 0 < 3 * n_asked[0] < n_asked[1]


def test_a_scorer_chooses_among_the_features_that_have_a_text(tmp_path: Path) -> None:
    """The queue ranks features without a label first; a scorer that took these would judge nothing."""
    root = tmp_path / "catalogue"
    context = StageContext(root, "r")
    explained = explain_features.fn(context, ExplainUnit(explainer(n_features=2), mined(root, N)))
    labelled = features_of(root, "explanations", explained)
    scored = score_explanations.fn(context, ScoreUnit(scorer(n_features=1), explained))
    assert len(features_of(root, "scores", scored)) == 1
    assert set(features_of(root, "scores", scored)) < set(labelled)
