"""Every way in which an endpoint goes wrong ends as a recorded outcome, in time and within the budget."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tasks.autointerp.asking import Asker
from tasks.autointerp.client import open_client
from tasks.autointerp.explainers.contexts import ContextsConfig
from tasks.autointerp.records import read_evidence
from tasks.autointerp.runner import Explained, explain
from tests.fakes.openai_server import Answer, Brain, FakeOpenAI, Fault, Question, explanation
from tests.tasks.autointerp.planted import distinct, features

CONFIG = ContextsConfig(endpoint="fake", n_firing=4, n_silent=1)
IDS = {"dictionary_id": "d-00000000", "activation_set_id": "s-00000000"}
SLACK_MS = 600
"""For a busy machine, beside the tenth by which a deadline may be missed."""
GOOD = explanation("the word of this feature")


def feature_of(question: Question) -> int:
    found = re.search(r"feat(\d+)", question.text)
    return int(found[1]) if found else -1


def client(
    fake: FakeOpenAI, folder: Path, owner: str = "stage", *, forced: bool = False, **limits: Any
) -> Asker:
    fields = {"base_url": fake.base_url, "model": "m", "probe": False, "attempts": 2, **limits}
    environ = {f"FEATLAS_ENDPOINT_FAKE_{name.upper()}": str(value) for name, value in fields.items()}
    places = {"cache_folder": folder / "cache", "scratch": folder / owner}
    return open_client("fake", environ=environ, owner=owner, forced=forced, **places)


def run(fake: FakeOpenAI, folder: Path, n: int, scratch: str = "scratch", **limits: Any) -> Explained:
    """Explain ``n`` features; ``limits`` are fields of the profile and ``forced``."""
    return explain(
        read_evidence(features(n), [distinct(n)]),
        CONFIG,
        client=client(fake, folder, owner=scratch, **limits),
        scratch=folder / scratch,
        **IDS,
    )


def statuses(explained: Explained) -> dict[int, str]:
    return {row["feature_index"]: row["status"] for row in explained.explanations.to_pylist()}


OUTCOMES: list[tuple[Answer, str]] = [
    (GOOD, "ok"),
    (Fault("server_error"), "error"),
    (Fault("hang"), "error"),
    (Fault("trickle"), "error"),
    (Fault("reset"), "error"),
    (Fault("html"), "error"),
    (Fault("bad_json"), "error"),
    (Fault("error_body"), "error"),
    (Fault("no_choices"), "error"),
    (Fault("null_choices"), "error"),
    (Fault("huge"), "error"),
    (Fault("redirect"), "error"),
    (Fault("gzip"), "error"),
    (Fault("bad_request"), "error"),
    (Fault("length"), "truncated"),
    (Fault("content_filter"), "filtered"),
    (Fault("refusal"), "refused"),
    ("Sure! It is a word of its own. Hope this helps.", "invalid"),
    (GOOD + " or rather " + explanation("something else"), "invalid"),
    ('{"explanation": NaN}', "invalid"),
    ('{"explanation": 3}', "invalid"),
    ('{"explanation": "   "}', "invalid"),
    ('{"explanation": "ok", "score": 1}', "invalid"),
    (json.dumps({"explanation": "x" * 5_000}), "invalid"),
]


def test_every_fault_ends_as_an_outcome_and_only_what_was_meant_is_kept(tmp_path: Path) -> None:
    limits = {"concurrency": 8, "deadline_seconds": 6, "attempt_seconds": 3, "breaker_errors": 99}
    n = len(OUTCOMES)
    with FakeOpenAI(lambda q: OUTCOMES[feature_of(q)][0]) as fake:
        explained = run(fake, tmp_path, n, **limits)
        assert statuses(explained) == {i: status for i, (_, status) in enumerate(OUTCOMES)}
        assert all("elsewhere" not in question.text for question in fake.questions)
        assert fake.most_at_once <= 8
    rows = explained.explanations.to_pylist()
    assert all((row["text"] is None) == (row["status"] != "ok") for row in rows)
    assert all(row["error"] for row in rows if row["status"] != "ok")
    calls = {row["call_id"]: row for row in explained.llm_calls.to_pylist()}
    assert {calls[row["call_id"]]["outcome"] for row in rows} == {status for _, status in OUTCOMES}
    assert all(calls[row["call_id"]]["outcome"] == row["status"] for row in rows)
    assert all(call["latency_ms"] <= 6_600 + SLACK_MS for call in calls.values())

    n_errors = sum(status == "error" for _, status in OUTCOMES)
    assert (explained.facts["complete"], explained.facts["n_failed"]) == (False, n_errors)

    meant = {i for i, (_, status) in enumerate(OUTCOMES) if status in ("ok", "refused", "filtered")}
    with FakeOpenAI(lambda q: GOOD) as healthy:
        again = run(healthy, tmp_path, n, scratch="second", concurrency=8)
        assert set(map(feature_of, healthy.questions)) == set(range(n)) - meant
        assert {i for i, s in statuses(again).items() if s != "ok"} == meant - {0}
        assert sum(row["cached"] for row in again.llm_calls.to_pylist()) == len(meant)
        assert again.facts["complete"] is True
    with FakeOpenAI(lambda q: GOOD) as healthy:
        forced = run(healthy, tmp_path, n, scratch="third", forced=True)
        assert set(map(feature_of, healthy.questions)) == meant - {0}
    assert set(statuses(forced).values()) == {"ok"}


def test_a_useless_reply_is_not_paid_for_twice_by_one_unit(tmp_path: Path) -> None:
    with FakeOpenAI(lambda q: "I would rather not.") as fake:
        first = run(fake, tmp_path, 2, scratch="same")
        asked = fake.n_questions
        (tmp_path / "same" / "explained.jsonl").unlink()
        resumed = run(fake, tmp_path, 2, scratch="same")
        assert fake.n_questions == asked
    assert set(statuses(resumed).values()) == {"invalid"}
    drop = ["created_at"]
    assert resumed.llm_calls.drop_columns(drop).equals(first.llm_calls.drop_columns(drop))


@pytest.mark.parametrize("fault", ["hang", "trickle"])
def test_total_deadline_is_kept(tmp_path: Path, fault: Any) -> None:
    with FakeOpenAI(lambda q: Fault(fault)) as fake:
        started = time.monotonic()
        explained = run(fake, tmp_path, 1, deadline_seconds=3, attempt_seconds=60, attempts=5)
        assert time.monotonic() - started >= 2.9
    (call,) = explained.llm_calls.to_pylist()
    assert 2_900 <= call["latency_ms"] <= 3_300 + SLACK_MS
    assert call["outcome"] == "error"


@pytest.mark.parametrize("fault", [Fault("rate_limit", "1"), Fault("rate_limit_ms", "1000")])
def test_short_wait_is_waited_for(tmp_path: Path, fault: Fault) -> None:
    def brain(question: Question) -> Answer:
        return fault if question.number == 1 else GOOD

    with FakeOpenAI(brain) as fake:
        started = time.monotonic()
        explained = run(fake, tmp_path, 1)
        assert time.monotonic() - started >= 1.0
    assert statuses(explained) == {0: "ok"}
    assert explained.llm_calls["attempts"].to_pylist() == [2]


def test_longer_wait_parks_all_questions(tmp_path: Path) -> None:
    times: list[float] = []

    def brain(question: Question) -> Answer:
        times.append(time.monotonic())
        return Fault("rate_limit", retry_after="6") if question.number == 1 else GOOD

    with FakeOpenAI(brain) as fake:
        explained = run(fake, tmp_path, 3, concurrency=1, deadline_seconds=3)
    assert set(statuses(explained).values()) == {"ok"}
    assert times[1] - times[0] >= 5.9
    assert fake.n_questions == 4


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("rate_limit", retry_after="3600"), "asks to wait"),
        (Fault("rate_limit", retry_after="Wed, 21 Oct 2150 07:28:00 GMT"), "asks to wait"),
        (Fault("quota"), "quota"),
        (Fault("unauthorised"), "refuses the key"),
        (Fault("no_model"), "knows no model"),
    ],
)
def test_hopeless_answers_stop_the_stage_and_a_rerun_continues(
    tmp_path: Path, fault: Fault, said: str
) -> None:
    def brain(question: Question) -> Answer:
        return GOOD if question.number <= 2 else fault

    with FakeOpenAI(brain) as fake:
        explained = run(fake, tmp_path, 8, concurrency=1)
        assert fake.n_questions == 3
    assert explained.facts["complete"] is False
    assert said in explained.facts["stopped"]
    assert explained.facts["n_left"] == 6
    assert statuses(explained) == {0: "ok", 1: "ok"}
    assert "sk-secret" not in explained.facts["stopped"]
    with FakeOpenAI(lambda q: GOOD) as healthy:
        again = run(healthy, tmp_path, 8, concurrency=1)
        assert healthy.n_questions == 6
    assert again.facts["complete"] is True
    assert set(statuses(again).values()) == {"ok"}


def test_dead_endpoint_trips_the_breaker(tmp_path: Path) -> None:
    with FakeOpenAI(lambda q: GOOD) as fake:
        pass
    explained = run(fake, tmp_path, 12, concurrency=1, attempts=1, breaker_errors=3)
    assert "3 questions in a row" in explained.facts["stopped"]
    assert (explained.facts["n_left"], explained.facts["n_failed"]) == (9, 3)
    assert statuses(explained) == {0: "error", 1: "error", 2: "error"}
    with FakeOpenAI(lambda q: GOOD) as healthy:
        again = run(healthy, tmp_path, 12)
    assert (again.facts["complete"], set(statuses(again).values())) == (True, {"ok"})


def test_repair_is_tried_once(tmp_path: Path) -> None:
    def brain(question: Question) -> Answer:
        return GOOD if "Not a valid reply" in question.text else "Here you are: the word."

    with FakeOpenAI(brain) as fake:
        explained = run(fake, tmp_path, 1)
        assert fake.n_questions == 2
    (call,) = explained.llm_calls.to_pylist()
    assert (call["attempts"], call["prompt_tokens"], call["outcome"]) == (2, 200, "ok")


@pytest.mark.parametrize("with_usage", [True, False])
def test_spend_stays_within_the_budget_and_the_rest_is_left(tmp_path: Path, with_usage: bool) -> None:
    limits = {"concurrency": 4, "budget_tokens": 20_000}
    with FakeOpenAI(lambda q: GOOD, prompt_tokens=900, completion_tokens=20, with_usage=with_usage) as fake:
        explained = run(fake, tmp_path, 40, **limits)
        asked = fake.n_questions
        assert fake.charged_tokens <= 20_000
    assert 0 < len(statuses(explained)) == asked < 40
    assert "budget" in explained.facts["stopped"]
    assert explained.facts["n_left"] == 40 - asked
    with FakeOpenAI(lambda q: GOOD) as healthy:
        again = run(healthy, tmp_path, 40, concurrency=4)
        assert healthy.n_questions == 40 - asked
    assert set(statuses(again).values()) == {"ok"}


def test_money_is_counted(tmp_path: Path) -> None:
    with FakeOpenAI(lambda q: GOOD, prompt_tokens=1_000, completion_tokens=500) as fake:
        explained = run(fake, tmp_path, 3, input_usd_per_million=2, output_usd_per_million=8)
    assert explained.facts["cost_usd"] == pytest.approx(3 * 0.006)


def test_a_killed_attempt_is_told_as_if_it_had_never_been_killed(tmp_path: Path) -> None:
    """The answer was cached, the journal not written: the same stage tells it as its own, uncached."""
    with FakeOpenAI(lambda q: GOOD) as fake:
        whole = run(fake, tmp_path, 3, scratch="same").llm_calls
        (tmp_path / "same" / "explained.jsonl").unlink()
        resumed = run(fake, tmp_path, 3, scratch="same").llm_calls
        assert fake.n_questions == 3
    drop = ["created_at"]
    assert resumed.drop_columns(drop).equals(whole.drop_columns(drop))


def test_probe_tells_whether_schemas_are_enforced(tmp_path: Path) -> None:
    def brain_for(enforces: bool) -> Brain:
        def brain(question: Question) -> Answer:
            schema = question.body["response_format"]["json_schema"]["schema"]
            if "capital of France" in question.text:
                (name, field), *_ = schema["properties"].items()
                return json.dumps({name: field["const"]}) if enforces else "Paris"
            return GOOD

        return brain

    for enforces in (True, False):
        with FakeOpenAI(brain_for(enforces)) as fake:
            explained = run(fake, tmp_path / str(enforces), 1, probe=True)
        assert explained.facts["enforces_schema"] is enforces
        assert sorted(explained.llm_calls["purpose"].to_pylist()) == ["explain", "probe"]


def test_nonce_is_fresh_but_does_not_change_what_a_question_is(tmp_path: Path) -> None:
    with FakeOpenAI(lambda q: Fault("server_error")) as fake:
        first = run(fake, tmp_path, 1, scratch="a", attempts=1).llm_calls
        second = run(fake, tmp_path, 1, scratch="b", attempts=1).llm_calls
    nonces = [set(re.findall(r"passage-([0-9a-f]{16})", question.text)) for question in fake.questions]
    assert [len(found) for found in nonces] == [1, 1]
    assert nonces[0] != nonces[1]
    assert first["prompt_digest"].equals(second["prompt_digest"])
