"""Explaining and scoring through the ledger: what is told apart lands apart, what failed is asked again."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from catalog.checks import check_data
from catalog.connection import connect
from catalog.ledger import StageOutcome
from flows.engine import free_port
from tasks.autointerp.explainer import EXPLAINERS, AnyExplainerConfig, Explainer, ExplainerConfig
from tasks.autointerp.scorer import SCORERS, AnyScorerConfig, Scorer, ScorerConfig
from tasks.stages.explain_features import ExplainUnit, explain_features
from tasks.stages.score_explanations import ScoreUnit, score_explanations
from tasks.support.policies import StageContext
from tests.fakes.openai_server import Answer, Brain, FakeOpenAI, Question, answers, explanation
from tests.tasks.stages.labelled import mined
from tests.tasks.stages.landed import another, landed

N = 3
SMALL = {"n_firing": 3, "n_random": 2, "n_neighbour": 2}
LABEL_TABLES = ("explanations", "scores", "judgements", "llm_calls")


def speaker(name: str) -> Brain:
    """Explains in its own name; as a judge it knows what the explanation means."""

    def brain(question: Question) -> Answer:
        if question.explanation and "'t1'" in str(question.body["response_format"]):
            word = question.explanation.split()[-1]
            (passage,) = question.passages
            return json.dumps(
                {key: 10 * (word in line) for key, line in re.findall(r"(t\d+): (.*)", passage)}
            )
        if "answers" not in str(question.body["response_format"]):
            (word,) = set(re.findall(r"feat\d+", question.text))
            return explanation(f"{name} says {word}")
        word = question.explanation.split()[-1]
        return answers([word in passage for passage in question.passages])

    return brain


def point(monkeypatch: pytest.MonkeyPatch, name: str, port_or_url: str, **fields: Any) -> None:
    """Let the profile ``name`` mean an address."""
    values = {"base_url": port_or_url, "model": "m", "probe": False, "attempts": 1, **fields}
    for field, value in values.items():
        monkeypatch.setenv(f"FEATLAS_ENDPOINT_{name.upper()}_{field.upper()}", str(value))


@pytest.fixture
def endpoints(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mapping[str, FakeOpenAI]]:
    """Two servers with the same model under two names."""
    with FakeOpenAI(speaker("one")) as one, FakeOpenAI(speaker("two")) as two:
        for name, server in (("one", one), ("two", two)):
            point(monkeypatch, name, server.base_url)
        yield {"one": one, "two": two}


def needed(kind: type[Explainer] | type[Scorer]) -> dict[str, str]:
    """The endpoint of one that asks a language model, the model of one that runs its own."""
    known = kind.Config.model_fields
    local = {"model": "pico-b", "pooling": "mean"} if runs_a_model(kind) else {}
    given = {"endpoint": "one"} if kind.needs_client else local
    return {name: value for name, value in given.items() if name in known}


def runs_a_model(kind: type[Explainer] | type[Scorer]) -> bool:
    """Whether it runs a model of its own in this process."""
    model = kind.Config.model_fields.get("model")
    return model is not None and model.is_required()


def explainer(name: str, **fields: Any) -> ExplainerConfig:
    values = {"explainer": name, **needed(EXPLAINERS[name]), **fields}
    return TypeAdapter[ExplainerConfig](AnyExplainerConfig).validate_python(values)


def scorer(name: str, **fields: Any) -> ScorerConfig:
    kind = SCORERS[name].Config.model_fields
    small = {field: value for field, value in SMALL.items() if field in kind and kind[field].default}
    values = {"scorer": name, **needed(SCORERS[name]), **small, "shuffles": 1, **fields}
    return TypeAdapter[ScorerConfig](AnyScorerConfig).validate_python(values)


def changed(config: ExplainerConfig | ScorerConfig, field: str) -> Any:
    """The configuration with another value of one field."""
    sensible = {"endpoint": "two", "where": "density > 0", "order": "density", "n_features": N - 1}
    sensible |= {"model": "pico-a", "pooling": "last"}
    return config.model_copy(update={field: sensible.get(field, another(getattr(config, field)))})


def fields_of(config: ExplainerConfig | ScorerConfig) -> list[str]:
    """The fields that say what is computed; without those of every scorer where a model runs each time."""
    kind = type(config)
    left_out = {"explainer", "scorer"} | kind.routing_fields
    if isinstance(config, ScorerConfig) and runs_a_model(SCORERS[config.scorer]):
        left_out |= ScorerConfig.model_fields.keys()
    return [name for name in kind.model_fields if name not in left_out]


def answered(root: Path) -> list[float]:
    """The shares of items with a valid answer in the stored scores."""
    with connect(root) as connection:
        rows = connection.execute("select distinct answered_share from scores").fetchall()
    return [share for (share,) in rows]


def faults(root: Path) -> list[str]:
    """Faults in the tables of labels; the features here have no dictionary behind them."""
    with connect(root) as connection:
        found = list(check_data(connection))
    return [one for one in found if one.startswith(LABEL_TABLES) and "is not in dictionaries" not in one]


CASES = [
    *(
        pytest.param(explainer(name), field, id=f"{name}-{field}")
        for name in EXPLAINERS
        for field in fields_of(explainer(name))
    ),
    *(
        pytest.param(scorer(name), field, id=f"{name}-{field}")
        for name in SCORERS
        for field in fields_of(scorer(name))
    ),
]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> tuple[StageContext, StageOutcome]:
    """A catalogue in which all configurations land side by side."""
    root = tmp_path_factory.mktemp("labels") / "catalogue"
    return StageContext(root, "run-1"), mined(root, N)


@pytest.mark.usefixtures("endpoints")
@pytest.mark.parametrize(("config", "field"), CASES)
def test_every_field_is_a_unit_of_its_own_whose_rows_land(
    bench: tuple[StageContext, StageOutcome], config: ExplainerConfig | ScorerConfig, field: str
) -> None:
    """What the fingerprint tells apart, the rows, their keys and the line of the summary tell apart."""
    context, evidence = bench
    outcomes, labels = [], []
    for each in (config, changed(config, field)):
        if isinstance(each, ExplainerConfig):
            unit: ExplainUnit | ScoreUnit = ExplainUnit(each, evidence)
            outcomes.append(explain_features.fn(context, unit))
        else:
            writer = "lexical" if each.scorer == "predicate" else "contexts"
            unit = ScoreUnit(each, explain_features.fn(context, ExplainUnit(explainer(writer), evidence)))
            outcomes.append(score_explanations.fn(context, unit))
        labels.append(unit.label)
    assert outcomes[1].recomputed, "the first may be there from another field"
    assert len({outcome.fingerprint for outcome in outcomes}) == len(set(labels)) == 2
    for outcome in outcomes:
        assert landed(context.root, outcome) == outcome.rows
        assert outcome.rows["explanations" if isinstance(config, ExplainerConfig) else "scores"] > 0


@pytest.mark.usefixtures("endpoints")
def test_all_of_them_side_by_side_are_sound(bench: tuple[StageContext, StageOutcome]) -> None:
    context, evidence = bench
    explained = explain_features.fn(context, ExplainUnit(explainer("contexts"), evidence))
    assert score_explanations.fn(context, ScoreUnit(scorer("detection"), explained)).rows["scores"] > 0
    assert faults(context.root) == []


def test_two_explainers_side_by_side_are_scored_each_by_its_own_texts(
    tmp_path: Path, endpoints: Mapping[str, FakeOpenAI]
) -> None:
    root = tmp_path / "catalogue"
    context, evidence = StageContext(root, "run-1"), mined(root, N)
    variants = ({"endpoint": "one"}, {"endpoint": "two"}, {"endpoint": "one", "n_firing": 5})
    for again in (False, True):
        for fields in variants:
            explained = explain_features.fn(context, ExplainUnit(explainer("contexts", **fields), evidence))
            unit = ScoreUnit(scorer("detection"), explained)
            scored = score_explanations.fn(context, unit)
            assert (explained.recomputed, scored.recomputed) == (not again, not again)
            with connect(root) as connection:
                texts = connection.execute(
                    "select distinct e.text, e.fingerprint from scores as s "
                    "join explanations as e using (explanation_id) where s.fingerprint = $1 order by all",
                    [scored.fingerprint],
                ).fetchall()
            name = fields["endpoint"]
            assert texts == [(f"{name} says feat{i}", explained.fingerprint) for i in range(N)]
        n_asked = {name: server.n_questions for name, server in endpoints.items()}
    assert n_asked == {name: server.n_questions for name, server in endpoints.items()}
    assert faults(root) == []


def test_an_endpoint_that_was_down_is_asked_again_when_it_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Explaining and judging: nobody listens at the port, then the server is there."""
    root, port = tmp_path / "catalogue", free_port()
    point(monkeypatch, "one", f"http://127.0.0.1:{port}/v1")
    context, evidence = StageContext(root, "run-1"), mined(root, N)
    explain, detection = ExplainUnit(explainer("contexts"), evidence), scorer("detection")
    for _ in range(2):
        explained = explain_features.fn(context, explain)
        assert (explained.recomputed, explained.facts["complete"], explained.facts["n_failed"]) == (
            True,
            False,
            N,
        )
        assert "no answer" in explained.facts["stopped"]
        assert score_explanations.fn(context, ScoreUnit(detection, explained)).rows["scores"] == 0
    assert faults(root) == []

    with FakeOpenAI(speaker("one"), port=port) as fake:
        explained = explain_features.fn(context, explain)
        assert (explained.facts["complete"], fake.n_questions) == (True, N)
    scored = score_explanations.fn(context, ScoreUnit(detection, explained))
    assert (scored.facts["complete"], scored.rows["scores"], scored.rows["judgements"]) == (False, 0, 0)

    with FakeOpenAI(speaker("one"), port=port) as fake:
        scored = score_explanations.fn(context, ScoreUnit(detection, explained))
        asked = fake.n_questions
        assert (scored.facts["complete"], scored.facts["n_scored"]) == (True, N)
        for unit, stage in (
            (explain, explain_features),
            (ScoreUnit(detection, explained), score_explanations),
        ):
            assert not stage.fn(context, unit).recomputed
        assert fake.n_questions == asked, "nothing is asked that has an answer"
    with connect(root) as connection:
        statuses = connection.execute(
            "select status, count(distinct feature_index) from explanations group by 1 order by 1"
        ).fetchall()
        latest = connection.execute("select distinct status from latest_explanations").fetchall()
        best = connection.execute("select count(label) from feature_cards").fetchone()
    assert statuses == [("error", N), ("ok", N)]
    assert (latest, best) == ([("ok",)], (N,))
    assert faults(root) == []


def test_what_was_refused_for_a_while_is_not_kept_as_a_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoints: Mapping[str, FakeOpenAI]
) -> None:
    """A judge whose replies could not be read is asked again on request; the new scores take the place."""
    root = tmp_path / "catalogue"
    context, evidence = StageContext(root, "run-1"), mined(root, N)
    explained = explain_features.fn(context, ExplainUnit(explainer("contexts"), evidence))
    unit = ScoreUnit(scorer("detection", endpoint="two"), explained)
    judge = endpoints["two"]
    repaired, judge.brain = judge.brain, lambda question: "I would rather not."
    first = score_explanations.fn(context, unit)
    assert (first.facts["complete"], answered(root)) == (True, [0.0])
    judge.brain = repaired
    assert not score_explanations.fn(context, unit).recomputed
    forced = score_explanations.fn(StageContext(root, "run-2", frozenset({"score_explanations"})), unit)
    assert (forced.recomputed, answered(root)) == (True, [1.0])
    assert landed(root, forced)["scores"] == first.rows["scores"]
    assert faults(root) == []
