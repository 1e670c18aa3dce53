"""Probabilities of the answers of a judge: read from any tokens, scored by their order, never needed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.autointerp.logprobs import ReplyToken, probability, read_tokens, yes_margins
from tests.fakes.openai_server import Answer, FakeOpenAI, Question, Raw, answers, refusal
from tests.fakes.ranked import ranked, said, token
from tests.tasks.autointerp.test_judging import oracle, run

YES_70 = {"1": -0.3566749, "0": -1.2039728}
LN = 0.8472979
"""log(0.7 / 0.3)."""


def tokens(*pieces: str, **alternatives: float) -> list[ReplyToken]:
    """The tokens of a reply; those with an answer have the same alternatives."""
    given = tuple(alternatives.items()) or tuple(YES_70.items())
    return [ReplyToken(p, given if any(c.isdecimal() for c in p) else ()) for p in pieces]


@pytest.mark.parametrize(
    "pieces",
    [
        ('{"answers": [', "1", ", ", "0", "]}"),
        ('{"', "answers", '":', " [", "1", ",", " 0", "]", "}"),
        ('{"answers":', "[1", ",0", "]}"),
        ('{"answers": [', "1,", " 0]", "}"),
        ("```json\n", '{"answers"', ": ", "[", "1,", "0", "]", "}\n```"),
        ("<think>", "[1, 1]", " or [", "0", "]</think>", '{"answers": [', "1", ", ", "0", "]}"),
        ('{"answers":', "▁[", "▁1", ",", "Ġ0", "]}"),
    ],
)
def test_answers_are_found_in_any_tokens(pieces: tuple[str, ...]) -> None:
    assert yes_margins(tokens(*pieces), [1, 0]) == pytest.approx([LN, LN], abs=1e-6)
    assert probability(LN) == pytest.approx(0.7)


def test_what_is_unclear_is_unknown() -> None:
    """Two answers in one token, another list than was read, alternatives without a digit, no tokens."""
    assert yes_margins(tokens('{"answers": [', "1, 0", "]}"), [1, 0]) == [None, None]
    assert yes_margins(tokens('{"answers": [', "1", ", ", "1", "]}"), [1, 0]) == [None, None]
    assert yes_margins([ReplyToken("[1]", (("yes", -0.1), ("no", -3.0)))], [1]) == [None]
    assert yes_margins([ReplyToken("[1]")], [1]) == [None]
    assert yes_margins([], [1, 0]) == [None, None]
    assert yes_margins(tokens('{"answers": [', "1", ", 0", "0", "]}"), [1, 0]) == [None, None]


def test_alternatives_with_the_same_digit_are_added_and_an_absent_digit_is_bounded() -> None:
    several = ReplyToken(
        " 1", ((" 1", np.log(0.4)), ("1", np.log(0.2)), ("[1", np.log(0.1)), ("0", np.log(0.1)))
    )
    assert yes_margins([ReplyToken("["), several, ReplyToken("]")], [1]) == pytest.approx([np.log(7)])
    alone = ReplyToken("1", (("1", np.log(0.9)), ("\n", np.log(0.06)), ("2", np.log(0.01))))
    assert yes_margins([ReplyToken("["), alone, ReplyToken("]")], [1]) == pytest.approx([np.log(90)])
    only = ReplyToken("0", (("0", np.log(0.8)),))
    assert yes_margins([ReplyToken("["), only, ReplyToken("]")], [0]) == pytest.approx([np.log(0.25)])


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {"content": None},
        {"content": ["1"]},
        {"content": [{"token": 3, "top_logprobs": "none"}]},
        {"content": [{"token": "1", "top_logprobs": [{"token": "1", "logprob": float("-inf")}, 7]}]},
        {"tokens": ["1"], "token_logprobs": [-0.1]},
    ],
)
def test_other_forms_say_nothing(body: Any) -> None:
    read = read_tokens(body)
    assert all(not token.alternatives for token in read)
    assert yes_margins(read, [1]) == [None]


def known(question: Question) -> list[bool]:
    plain = oracle(question)
    assert isinstance(plain, str)
    return [bool(answer) for answer in json.loads(plain)["answers"]]


def says_yes_but_ranks(question: Question) -> Answer:
    """Every stated answer is 1; the probabilities know better, with some noise."""
    if not question.passages:
        return said("Paris", {"content": [token("Paris", Paris=-0.1)]})
    margins = [
        3.0 + 2 * truth + (hash_of(text) - 0.5) * 2.4
        for truth, text in zip(known(question), question.passages, strict=True)
    ]
    return ranked([1] * len(margins), margins)


def hash_of(text: str) -> float:
    """A number between 0 and 1 that depends on the text alone."""
    return float(np.random.default_rng(list(text.encode())).random())


def coin(question: Question) -> Answer:
    """Neither its answers nor its probabilities depend on the explanation's meaning."""
    margins = [6 * hash_of(question.explanation + text) - 3 for text in question.passages]
    return ranked([margin > 0 for margin in margins], margins)


def by_metric(scored: Any, metric: str, variant: str = "mixed") -> list[dict[str, Any]]:
    rows = scored.scores.to_pylist()
    return [row for row in rows if (row["metric"], row["variant"]) == (metric, variant)]


@pytest.mark.parametrize("scorer", ["detection", "fuzzing"])
def test_a_judge_that_always_says_yes_is_scored_by_what_it_thinks(tmp_path: Path, scorer: str) -> None:
    """It is not stopped as one that does not read: its probabilities differ between passages."""
    with FakeOpenAI(says_yes_but_ranks) as fake:
        scored = run(fake, tmp_path, scorer, n=24, shuffles=1, probe=True)
        asked = [q.body for q in fake.questions]
    assert (scored.facts["complete"], scored.facts["gives_logprobs"]) == (True, True)
    assert all(body["logprobs"] and body["top_logprobs"] == 5 for body in asked)
    stated, ranks = by_metric(scored, "balanced_accuracy"), by_metric(scored, "auroc")
    assert {row["value"] for row in stated} == {0.5}
    assert not any(row["above_chance"] for row in stated)
    assert {row["answered_by"] for row in stated} == {"answer"}
    assert len(ranks) == 24
    assert {row["answered_by"] for row in ranks} == {"logprob"}
    assert np.mean([row["value"] for row in ranks]) > 0.9
    assert all(row["ci_low"] < row["value"] <= row["ci_high"] for row in ranks)
    assert np.mean([bool(row["above_chance"]) for row in ranks]) > 0.9
    assert min(row["chance"] for row in ranks) >= 0.5
    judged = scored.judgements.to_pylist()
    assert all(0.5 < row["probability"] < 1 for row in judged)
    fired, silent = (
        [row["probability"] for row in judged if row["truth"] is is_true] for is_true in (True, False)
    )
    assert np.mean(fired) > np.mean(silent)


def test_a_coin_is_above_chance_as_rarely_as_the_interval_says(tmp_path: Path) -> None:
    n = 60
    with FakeOpenAI(coin) as fake:
        scored = run(fake, tmp_path, "detection", n=n, shuffles=1)
    ranks = by_metric(scored, "auroc")
    assert len(ranks) == n
    assert np.mean([row["value"] for row in ranks]) == pytest.approx(0.5, abs=0.06)
    assert np.mean([bool(row["above_chance"]) for row in ranks]) <= 0.025 + 3 * (0.025 * 0.975 / n) ** 0.5


def without(question: Question) -> Answer:
    return oracle(question) if question.passages else "Paris"


def refuses(question: Question) -> Answer:
    reason = "logprobs are not supported with this model."
    return refusal(reason, "logprobs") if "logprobs" in question.body else without(question)


def refuses_without_a_word(question: Question) -> Answer:
    return refusal("Invalid request.") if "logprobs" in question.body else without(question)


def other_form(question: Question) -> Answer:
    plain = without(question)
    assert isinstance(plain, str)
    return said(plain, {"tokens": ["1"], "token_logprobs": [-0.1]})


@pytest.mark.parametrize("server", [without, refuses, refuses_without_a_word, other_form])
def test_an_endpoint_without_probabilities_is_scored_by_its_answers(
    tmp_path: Path, server: Callable[[Question], Answer]
) -> None:
    """The probe learns it: no later question asks for them, and none is paid for twice."""
    with FakeOpenAI(server) as fake:
        scored = run(fake, tmp_path, "detection", shuffles=0, probe=True)
        bodies = [q.body for q in fake.questions]
        n_asked = fake.n_questions
        again = run(fake, tmp_path, "detection", shuffles=0, probe=True)
        assert fake.n_questions == n_asked
    assert (scored.facts["complete"], scored.facts["gives_logprobs"]) == (True, False)
    assert sum("logprobs" in body for body in bodies) == 1, "only the probe"
    assert {row["value"] for row in by_metric(scored, "balanced_accuracy")} == {1.0}
    assert not by_metric(scored, "auroc")
    assert {row["probability"] for row in scored.judgements.to_pylist()} == {None}
    assert again.scores.num_rows == scored.scores.num_rows


def test_a_setting_asks_for_none(tmp_path: Path) -> None:
    with FakeOpenAI(says_yes_but_ranks) as fake:
        scored = run(fake, tmp_path, "detection", n=2, shuffles=0, logprobs=False)
        assert not any("logprobs" in q.body for q in fake.questions)
    assert not by_metric(scored, "auroc")


def test_probabilities_are_kept_with_the_answer(tmp_path: Path) -> None:
    """Another unit of work that finds the answers in the cache finds the probabilities as well."""
    with FakeOpenAI(says_yes_but_ranks) as fake:
        first = run(fake, tmp_path, "detection", shuffles=0)
        n_asked = fake.n_questions
        (tmp_path / "scratch" / "scored.jsonl").unlink()
        again = run(fake, tmp_path, "detection", shuffles=0)
        assert fake.n_questions == n_asked
    columns = ["explanation_id", "item", "probability"]
    assert again.judgements.select(columns).equals(first.judgements.select(columns))
    assert by_metric(again, "auroc")


def test_a_reply_with_one_unreadable_answer_is_scored_over_the_others(tmp_path: Path) -> None:
    def brain(question: Question) -> Answer:
        reply = says_yes_but_ranks(question)
        assert isinstance(reply, Raw)
        if len(question.passages) == 5:
            reply.body["choices"][0]["logprobs"]["content"][1]["top_logprobs"] = []
        return reply

    with FakeOpenAI(brain) as fake:
        scored = run(fake, tmp_path, "detection", shuffles=0)
    rows = by_metric(scored, "auroc")
    assert {row["answered_share"] for row in rows} == {16 / 19}
    assert {row["n"] for row in rows} == {16}
    assert {row["answered_share"] for row in by_metric(scored, "balanced_accuracy")} == {1.0}


def test_the_fake_speaks_as_the_protocol_does() -> None:
    (choice,) = ranked([1, 0], [2.0, -1.0]).body["choices"]
    assert choice["message"]["content"] == answers([1, 0])
    assert yes_margins(read_tokens(choice["logprobs"]), [1, 0]) == pytest.approx([2.0, -1.0])
