"""Correlation of simulations: the worked example, its interval, its nulls, and a server that simulates."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.autointerp.chance import with_chance
from tasks.autointerp.items import Items, Judged, Trace
from tasks.autointerp.logprobs import ReplyToken, expected_values
from tasks.autointerp.measures import score_rows
from tasks.autointerp.metrics import Values
from tasks.autointerp.records import read_evidence
from tasks.autointerp.runner import score
from tasks.autointerp.scorers.simulation import SimulationConfig
from tasks.autointerp.tracking import TRACKING, correlation, fisher_interval, standard_error
from tests.fakes.openai_server import Answer, FakeOpenAI, Question, refusal
from tests.fakes.ranked import said, token
from tests.tasks.autointerp.planted import distinct, features
from tests.tasks.autointerp.test_client import IDS, client
from tests.tasks.autointerp.test_judging import explanations

TRUE = ([0.0, 0.0, 8.0, 2.0], [0.0, 4.0, 0.0, 0.0])
SIMULATED = ([0.0, 1.0, 7.0, 3.0], [2.0, 2.0, 1.0, 0.0])
T, PEAK = 32, 21
N = 400


def traces(true: Any = TRUE, simulated: Any = SIMULATED) -> list[Trace]:
    return [Trace(np.asarray(t), np.asarray(s)) for t, s in zip(true, simulated, strict=True)]


def test_worked_example() -> None:
    """Contexts joined: 0.9075, not the mean of their own correlations, 0.7517."""
    assert correlation(traces()) == pytest.approx(0.907485213)
    alone = [correlation([trace]) for trace in traces()]
    assert np.mean(alone) == pytest.approx(0.7517259767)
    assert math.isnan(correlation(traces(simulated=([1.0] * 4, [1.0] * 4))))
    assert math.isnan(correlation([]))


def test_expected_value_leaves_out_what_is_no_number() -> None:
    """p(0) = .5, p(5) = .25, p(10) = .15 and .1 on other tokens: 3.0556, not 2.75."""
    shares = {"0": 0.5, "5": 0.25, "10": 0.15, " the": 0.06, "11": 0.04}
    alternatives = tuple((text, math.log(share)) for text, share in shares.items())
    reply = [ReplyToken('{"t1": '), ReplyToken("0", alternatives), ReplyToken(', "t2": 7}')]
    found = expected_values(reply, {"t1": 0, "t2": 7}, 10)
    assert found == {"t1": pytest.approx(3.0555555556), "t2": None}
    assert expected_values(reply, {"t1": 5}, 10) == {"t1": None}, "another number was read"
    assert expected_values([], {"t1": 0}, 10) == {"t1": None}
    cut = [
        ReplyToken('{"t1": '),
        ReplyToken("1", (("1", math.log(0.5)), ("0", math.log(0.5)))),
        ReplyToken("0}"),
    ]
    assert expected_values(cut, {"t1": 10}, 10) == {"t1": pytest.approx(5.0)}


def test_error_is_the_jackknife_over_contexts_and_never_below_that_of_the_tokens() -> None:
    rng = np.random.default_rng(0)
    made = [Trace(t := rng.normal(size=8), t + rng.normal(size=8)) for _ in range(6)]
    left_out = [math.atanh(correlation(made[:i] + made[i + 1 :])) for i in range(6)]
    expected = math.sqrt(5 / 6 * sum((z - np.mean(left_out)) ** 2 for z in left_out))
    assert standard_error(made) == pytest.approx(max(expected, 1 / math.sqrt(45)))
    same = [Trace(np.arange(4.0), np.arange(4.0))] * 5
    assert standard_error(same) == pytest.approx(1 / math.sqrt(17))
    assert math.isnan(standard_error(same[:2]))
    low, high = fisher_interval(0.5, 0.1, 10)
    assert (low, high) == pytest.approx(
        (math.tanh(math.atanh(0.5) - 0.2262157), math.tanh(math.atanh(0.5) + 0.2262157))
    )


class Feature:
    """Five contexts with a peak at the usual place, and five silent ones."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        kind = rng.permutation(np.asarray(["firing"] * 5 + ["random"] * 5, object))
        self.items = Items(np.arange(10), kind == "firing", kind)
        self.true = [np.zeros(T) for _ in range(10)]
        for place in np.flatnonzero(self.items.truth_I):
            self.true[place][PEAK] = rng.uniform(2, 10)
            self.true[place][rng.integers(T)] += rng.uniform(0, 4)


Simulator = Callable[[Feature, int, bool], Values]


def at_random(feature: Feature, place: int, own: bool) -> Values:
    return feature.rng.integers(0, 11, T).astype(float)


def rare(feature: Feature, place: int, own: bool) -> Values:
    simulated = np.zeros(T)
    simulated[feature.rng.integers(T)] = 10 * (feature.rng.random() < 0.5)
    return simulated


def usual_place(feature: Feature, place: int, own: bool) -> Values:
    simulated = np.zeros(T)
    simulated[PEAK] = 8.0
    return simulated


def constant(feature: Feature, place: int, own: bool) -> Values:
    return np.full(T, 3.0)


def knows(feature: Feature, place: int, own: bool) -> Values:
    return np.round(feature.true[place]) if own else rare(feature, place, own)


def rows_of(simulator: Simulator, n: int = N) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(n):
        feature = Feature(rng)
        judged = [
            Judged(
                np.full(10, -1, np.int8),
                traces=tuple(Trace(feature.true[i], simulator(feature, i, own)) for i in range(10)),
            )
            for own in (True, False)
        ]
        rows += score_rows(feature.items, judged[0], judged[1:], (TRACKING,))
    return [row for row in with_chance(rows) if row["variant"] == "mixed"]


@pytest.mark.parametrize("simulator", [at_random, rare, usual_place])
def test_a_simulator_that_reads_no_explanation_is_above_chance_as_often_as_the_interval_says(
    simulator: Simulator,
) -> None:
    """One of them puts the peak where mining puts it: the correlation is 0.5, and so is chance."""
    rows = [row for row in rows_of(simulator) if row["value"] is not None]
    assert len(rows) > 0.9 * N
    share = np.mean([bool(row["above_chance"]) for row in rows])
    assert share <= 0.025 + 3 * (0.025 * 0.975 / len(rows)) ** 0.5
    if simulator is usual_place:
        assert np.mean([row["value"] for row in rows]) > 0.4


def test_a_simulator_that_knows_is_above_chance() -> None:
    rows = rows_of(knows, 100)
    assert np.mean([row["value"] for row in rows]) > 0.99
    assert all(row["above_chance"] for row in rows)


def test_a_constant_simulation_has_no_value() -> None:
    rows = rows_of(constant, 30)
    assert {(row["value"], row["n"], row["answered_share"]) for row in rows} == {(None, 10, 1.0)}


def shown(question: Question) -> list[str]:
    """The tokens that the prompt lists."""
    return [
        json.loads(text)
        for text in re.findall(r"^t\d+: (\".*\")$", question.body["messages"][-1]["content"], re.M)
    ]


def simulate(question: Question, value: Callable[[str], float]) -> list[int]:
    return [int(value(text)) for text in shown(question)]


def reply(values: list[int]) -> str:
    return json.dumps({f"t{i + 1}": value for i, value in enumerate(values)})


def oracle(question: Question) -> Answer:
    word = question.explanation.split()[-1]
    return reply(simulate(question, lambda text: 9 * (text.strip() == word)))


def hedges(question: Question) -> Answer:
    """States 0 everywhere; its probabilities know the word."""
    word = question.explanation.split()[-1] if question.explanation else ""
    content = [token("{")]
    for i, text in enumerate(shown(question)):
        known = text.strip() == word
        content += [token(f'{", " if i else ""}"t{i + 1}": ')]
        logs = {"0": math.log(0.6), "8": math.log(0.3 if known else 0.01), "\n": math.log(0.05)}
        content.append(token("0", **logs))
    content.append(token("}"))
    return said("".join(part["token"] for part in content), {"content": content})


SIZES = {"n_firing": 4, "n_random": 4, "n_neighbour": 0, "shuffles": 1}


def simulated(fake: FakeOpenAI, folder: Path, **fields: Any) -> list[dict[str, Any]]:
    n = 24
    scored = score(
        read_evidence(features(n), [distinct(n)]),
        explanations(n),
        SimulationConfig(endpoint="fake", **SIZES, **fields),
        client=client(fake, folder),
        scratch=folder / "scratch",
        **IDS,
    )
    rows = [row for row in scored.scores.to_pylist() if row["variant"] == "mixed"]
    assert {row["metric"] for row in rows} == {"correlation"}
    assert len(rows) == n
    assert scored.facts["n_undefined"] == sum(row["value"] is None and row["n"] > 0 for row in rows)
    return rows


def test_a_server_that_simulates(tmp_path: Path) -> None:
    """Labels of other features are simulated as silence, which correlates with nothing."""
    with FakeOpenAI(oracle) as fake:
        rows = simulated(fake, tmp_path)
        assert all(re.search(r"t1: \" some\"", q.text) for q in fake.questions)
    assert {(round(row["value"], 9), row["chance"], row["answered_by"]) for row in rows} == {
        (1.0, 0.0, "answer")
    }
    assert all(row["above_chance"] for row in rows)


def test_expected_values_say_more_than_the_stated_ones(tmp_path: Path) -> None:
    with FakeOpenAI(hedges) as fake:
        rows = simulated(fake, tmp_path / "a")
        assert {q.body["top_logprobs"] for q in fake.questions} == {10}
        stated = simulated(fake, tmp_path / "b", logprobs=False)
    assert {(round(row["value"], 9), row["answered_by"]) for row in rows} == {(1.0, "logprob")}
    assert {(row["value"], row["n"]) for row in stated} == {(None, 8)}


def test_an_endpoint_with_fewer_alternatives_gives_those_it_has(tmp_path: Path) -> None:
    def brain(question: Question) -> Answer:
        if question.body.get("top_logprobs", 0) > 5:
            return refusal("top_logprobs must be less than or equal to 5", "top_logprobs")
        return hedges(question)

    with FakeOpenAI(brain) as fake:
        rows = simulated(fake, tmp_path)
        assert [q.body["top_logprobs"] for q in fake.questions].count(10) <= 4, "those under way at first"
    assert {(round(row["value"], 9), row["answered_by"]) for row in rows} == {(1.0, "logprob")}


def test_a_reply_of_another_length_is_no_answer(tmp_path: Path) -> None:
    with FakeOpenAI(lambda q: reply([0, 0, 9])) as fake:
        rows = simulated(fake, tmp_path)
    assert {(row["value"], row["n"], row["answered_share"]) for row in rows} == {(None, 0, 0.0)}
