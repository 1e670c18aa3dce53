"""An endpoint that refuses a part of the request is asked without it, once learnt, for good."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.autointerp.asking import Asker
from tasks.autointerp.chat import ChatReply, ChatRequest, Message, Reply
from tasks.autointerp.shapes import RequestShape
from tests.fakes.openai_server import Answer, FakeOpenAI, Question, Raw, explanation, refusal
from tests.fakes.openai_server import Message as Sent
from tests.tasks.autointerp.test_asking import ask
from tests.tasks.autointerp.test_client import client, run, statuses


class Word(Reply):
    """A reply."""

    explanation: str


GOOD = explanation("a word")
Body = dict[str, Any]


def question(text: str, max_tokens: int = 200) -> ChatRequest:
    messages = [Message("system", "be short"), Message("user", text)]
    return ChatRequest("explain", text, lambda nonce: messages, Word, max_tokens)


def asked(fake: FakeOpenAI, folder: Path, *texts: str, **fields: Any) -> list[ChatReply]:
    return ask(client(fake, folder, **fields), *map(question, texts))


def openai_reasoning(body: Body) -> Raw | None:
    """A reasoning model of OpenAI."""
    if "max_tokens" in body:
        return refusal(
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            "max_tokens",
            "unsupported_parameter",
        )
    if body.get("temperature", 1) != 1:
        said = "Unsupported value: 'temperature' does not support 0 with this model."
        return refusal(said, "temperature", "unsupported_value")
    return None


def no_formats(body: Body) -> Raw | None:
    said = "This response_format type is unavailable now"
    return refusal(said, "response_format") if "response_format" in body else None


def json_object_only(body: Body) -> Raw | None:
    kind = body.get("response_format", {}).get("type")
    return (
        Raw(400, {"error": "'response_format.type' must be 'json_object'"}) if kind == "json_schema" else None
    )


def forbidding(field: str) -> Callable[[Body], Raw | None]:
    """A server that checks requests with pydantic."""

    def refuse(body: Body) -> Raw | None:
        fault = {"type": "extra_forbidden", "loc": ["body", field], "msg": "Extra inputs are not permitted"}
        return Raw(422, {"detail": [{**fault, "input": body}]}) if field in body else None

    return refuse


def no_system_role(body: Body) -> Raw | None:
    said = "Conversation roles must alternate user/assistant/user/assistant/..."
    return refusal(said, status=500) if body["messages"][0]["role"] == "system" else None


def at_most(body: Body) -> Raw | None:
    said = "max_tokens is too large: 200. This model supports at most 128 completion tokens"
    return refusal(said, "max_tokens", "invalid_value") if body.get("max_tokens", 0) > 128 else None


HABITS = {
    "reasoning model": (openai_reasoning, {"max_completion_tokens": 200}),
    "no formats": (no_formats, {"max_tokens": 200, "temperature": 0.0}),
    "json_object only": (json_object_only, {"response_format": {"type": "json_object"}}),
    "no temperature": (forbidding("temperature"), {"max_tokens": 200}),
    "no limit": (forbidding("max_tokens"), {"max_completion_tokens": 200}),
    "no system role": (no_system_role, {"max_tokens": 200}),
    "a lower limit": (at_most, {"max_tokens": 128}),
}


@pytest.mark.parametrize("habit", HABITS)
def test_what_is_refused_is_left_out_from_then_on(
    tmp_path: Path, habit: str, caplog: pytest.LogCaptureFixture
) -> None:
    refuse, wanted = HABITS[habit]
    refused: list[Raw] = []

    def brain(question: Question) -> Answer:
        answer = refuse(question.body)
        refused.extend([answer] if answer else [])
        return answer or GOOD

    with FakeOpenAI(brain) as fake, caplog.at_level(logging.WARNING):
        replies = asked(fake, tmp_path, "one", "two", "three", concurrency=1)
        assert [reply.outcome for reply in replies] == ["ok"] * 3
        n_refused = len(refused)
        assert fake.n_questions == 3 + n_refused
        assert [reply.outcome for reply in asked(fake, tmp_path, "four", owner="another stage")] == ["ok"]
        assert len(refused) == n_refused, "what was learnt is remembered"
        body = fake.questions[-1].body
    assert {name: body[name] for name in wanted} == wanted
    said = [record.message for record in caplog.records if "endpoint 'fake', model 'm'" in record.message]
    assert len(said) == len(set(said)) == n_refused


def test_questions_under_way_at_once_learn_the_same_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeOpenAI(lambda q: no_formats(q.body) or GOOD) as fake, caplog.at_level(logging.WARNING):
        replies = asked(fake, tmp_path, *map(str, range(8)), concurrency=8)
    assert {reply.outcome for reply in replies} == {"ok"}
    assert len(caplog.records) == 2


def test_without_a_schema_the_form_of_the_reply_stands_in_the_prompt(tmp_path: Path) -> None:
    def brain(question: Question) -> Answer:
        refused = no_formats(question.body)
        return refused or (GOOD if '"explanation"' in question.text else "a word")

    with FakeOpenAI(brain) as fake:
        (reply,) = asked(fake, tmp_path, "say")
        assert reply.outcome == "ok"
        sent = fake.questions[-1].body["messages"]
    assert [message["role"] for message in sent] == ["system", "user"]
    assert json.loads(sent[1]["content"].split("JSON schema:\n")[1]) == Word.model_json_schema()


def test_without_a_system_role_its_text_is_the_users(tmp_path: Path) -> None:
    with FakeOpenAI(lambda q: no_system_role(q.body) or GOOD) as fake:
        asked(fake, tmp_path, "say")
        (message,) = fake.questions[-1].body["messages"]
    assert message == {"role": "user", "content": "be short\n\nsay"}


@pytest.mark.parametrize(
    "refused",
    [
        refusal("This model's maximum context length is 64 tokens; reduce max_tokens", "messages"),
        refusal("the moon is in the wrong phase"),
        refusal("Invalid 'extra': unknown", "extra"),
        Raw(400, "<html>temper</html>"),
    ],
)
def test_a_refusal_that_names_nothing_of_ours_is_the_end_of_the_question(
    tmp_path: Path, refused: Raw
) -> None:
    with FakeOpenAI(lambda q: refused) as fake:
        (reply,) = asked(fake, tmp_path, "say")
        assert (reply.outcome, fake.n_questions) == ("error", 1)


def test_an_endpoint_that_refuses_everything_is_not_asked_for_ever(tmp_path: Path) -> None:
    everything = refusal("max_tokens, temperature, response_format and system role are not supported")
    with FakeOpenAI(lambda q: everything) as fake:
        (reply,) = asked(fake, tmp_path, "say")
        assert (reply.outcome, fake.n_questions) == ("error", 7)


def test_the_profile_says_what_cannot_be_learnt(tmp_path: Path) -> None:
    fields = {"token_limit": "none", "response_format": "none", "temperature": 0.6}
    with FakeOpenAI(lambda q: GOOD) as fake:
        asked(fake, tmp_path, "say", **fields, extra_body='{"reasoning_effort": "low"}')
        body = fake.questions[-1].body
        assert body.keys() == {"model", "messages", "temperature", "reasoning_effort"}
        assert (body["temperature"], body["reasoning_effort"]) == (0.6, "low")
        asked(fake, tmp_path, "say", **fields, extra_body='{"reasoning_effort": "high"}')
        assert fake.n_questions == 2, "another setting is another question"


def thinking(n_tokens: int) -> Callable[[Question], Answer]:
    """A model that thinks for ``n_tokens`` before it answers."""

    def brain(question: Question) -> Answer:
        body = question.body
        limit = body.get("max_tokens") or body["max_completion_tokens"]
        if limit < n_tokens:
            usage = {"completion_tokens": limit}
            return Sent({"content": "", "reasoning_content": "hm " * 9}, "length", usage)
        return Sent({"content": GOOD, "reasoning_content": "hm"})

    return brain


def test_a_model_that_thinks_gets_room_once_it_is_seen_to_need_it(tmp_path: Path) -> None:
    with FakeOpenAI(thinking(600)) as fake:
        replies = asked(fake, tmp_path, "one", "two", concurrency=1)
        assert [reply.outcome for reply in replies] == ["ok", "ok"]
        limits = [question.body["max_tokens"] for question in fake.questions]
    assert limits == [200, 200 + 4096, 200 + 4096]
    assert replies[0].record.attempts == 2


def test_a_model_that_never_stops_thinking_is_truncated_and_told_apart(tmp_path: Path) -> None:
    with FakeOpenAI(thinking(10**6)) as fake:
        (reply,) = asked(fake, tmp_path, "one")
        assert (reply.outcome, fake.n_questions) == ("truncated", 3)
    assert "while the model was thinking" in (reply.error or "")


def test_room_can_be_given_in_the_profile(tmp_path: Path) -> None:
    with FakeOpenAI(thinking(600)) as fake:
        (reply,) = asked(fake, tmp_path, "one", reasoning_tokens=1_000)
        assert (reply.outcome, fake.n_questions) == ("ok", 1)


def test_room_is_within_the_budget(tmp_path: Path) -> None:
    """The most that a request can cost counts the room for thoughts."""
    with FakeOpenAI(thinking(600)) as fake:
        asker: Asker = client(fake, tmp_path, budget_tokens=1_000)
        with pytest.raises(Exception, match="day's budget"):
            ask(asker, question("one"))
        assert fake.n_questions == 1


def test_a_stage_on_such_an_endpoint_has_all_its_labels(tmp_path: Path) -> None:
    with FakeOpenAI(lambda q: openai_reasoning(q.body) or no_formats(q.body) or GOOD) as fake:
        explained = run(fake, tmp_path, 4, probe=True)
    assert set(statuses(explained).values()) == {"ok"}
    assert explained.facts["enforces_schema"] is False


def test_the_shape_begins_as_openai_documents_it() -> None:
    sent = RequestShape().parameters(question("say"), [Message("user", "say")], 0.0)
    assert sent.keys() == {"messages", "max_tokens", "temperature", "response_format"}
    assert sent["response_format"]["json_schema"]["strict"] is True
