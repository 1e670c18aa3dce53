"""Asking without a wire: what leaves the machine, how fast, and what one question may cost."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tasks.autointerp.asking import Asker
from tasks.autointerp.budget import Budget
from tasks.autointerp.chat import ChatReply, ChatRequest, Message, Reply, Stopped
from tasks.autointerp.endpoint import EndpointProfile
from tasks.autointerp.prompt_cache import Answers, PromptCache
from tasks.autointerp.replies import Completion, Unavailable

SECRET = "mail jane@example.org, key sk-abcdefghijklmnopqrstuvwxyz"


class Answer(Reply):
    """A reply."""

    value: int


class Recorder:
    """A wire that answers at once and remembers what it was given."""

    gives_logprobs = False

    def __init__(self, failures: int = 0) -> None:
        self.sent: list[str] = []
        self.failures = failures

    def most_tokens(self, request: ChatRequest) -> int:
        return request.max_tokens

    def give_room(self, sent_limit: int, request: ChatRequest) -> bool:
        return False

    async def complete(self, request: ChatRequest, messages: Sequence[Message]) -> Completion:
        self.sent.append("\n".join(message.content for message in messages))
        if len(self.sent) <= self.failures:
            raise Unavailable("busy")
        return Completion('{"value": 1}', None, "stop", 10, 5)

    async def close(self) -> None:
        """Nothing to close."""


def asker(folder: Path, wire: Recorder, **fields: Any) -> Asker:
    plain = {"name": "x", "base_url": "https://api.example.com/v1", "model": "m", **fields}
    profile = EndpointProfile.model_validate(plain)
    return Asker(
        profile, wire, Answers(PromptCache(folder / "cache")), Budget(folder / "spend", profile), "owner"
    )


def question(text: str, unit: str = "0") -> ChatRequest:
    return ChatRequest("explain", unit, lambda nonce: [Message("user", f"{text} {nonce}")], Answer)


def ask(client: Asker, *requests: ChatRequest) -> list[ChatReply]:
    async def all_of_them() -> list[ChatReply]:
        return list(await asyncio.gather(*(client.ask(request) for request in requests)))

    return asyncio.run(all_of_them())


@pytest.mark.parametrize(
    ("url", "leaves"), [("https://api.example.com/v1", False), ("http://localhost/v1", True)]
)
def test_secrets_leave_for_local_endpoints_only(tmp_path: Path, url: str, leaves: bool) -> None:
    wire = Recorder()
    (reply,) = ask(asker(tmp_path, wire, base_url=url), question(SECRET))
    assert reply.value == Answer(value=1)
    assert ("jane@example.org" in wire.sent[0]) is leaves
    assert ("sk-abcdefghijklmnopqrstuvwxyz" in wire.sent[0]) is leaves


def test_requests_per_minute_are_kept(tmp_path: Path) -> None:
    wire = Recorder()
    client = asker(tmp_path, wire, requests_per_minute=120)
    started = time.monotonic()
    ask(client, *(question(f"q{i}") for i in range(4)))
    assert time.monotonic() - started >= 1.4
    assert len(wire.sent) == 4


def test_tries_end_after_as_many_as_allowed(tmp_path: Path) -> None:
    wire = Recorder(failures=9)
    (reply,) = ask(asker(tmp_path, wire, attempts=2), question("q"))
    assert (reply.outcome, reply.error, reply.record.attempts) == ("error", "busy", 2)


def test_a_question_asked_twice_costs_once(tmp_path: Path) -> None:
    wire = Recorder()
    prices = {"input_usd_per_million": 1e6, "output_usd_per_million": 0}
    first = ask(asker(tmp_path, wire, **prices), question("q", "feature 1"))
    second = ask(asker(tmp_path, wire, **prices), question("q", "feature 2"))
    assert len(wire.sent) == 1
    assert (first[0].record.cost_usd, first[0].record.cached) == (10.0, False)
    assert (second[0].record.cost_usd, second[0].record.cached) == (0.0, True)
    assert first[0].record.call_id != second[0].record.call_id
    assert second[0].value == first[0].value


def test_budget_stops_before_the_first_request(tmp_path: Path) -> None:
    wire = Recorder()
    client = asker(tmp_path, wire, budget_tokens=50)
    with pytest.raises(Stopped, match="budget"):
        ask(client, question("q"))
    assert wire.sent == []


@pytest.mark.parametrize("concurrency", [1, 4, 32])
def test_a_budget_is_used_up_however_many_questions_are_asked_at_once(
    tmp_path: Path, concurrency: int
) -> None:
    """A question costs 15 tokens and reserves about 250: only what one reserves may stay unused."""
    n_paid, real, reserved = 0, 15, 300

    class Slow(Recorder):
        async def complete(self, request: ChatRequest, messages: Sequence[Message]) -> Completion:
            await asyncio.sleep(0.01)
            return await super().complete(request, messages)

    async def all_of_them(client: Asker) -> None:
        nonlocal n_paid

        async def one(unit: int) -> None:
            nonlocal n_paid
            await client.ask(question(f"q {unit}", str(unit)))
            n_paid += 1

        await asyncio.gather(*(one(unit) for unit in range(80)), return_exceptions=True)

    client = asker(tmp_path, Slow(), budget_tokens=1_000, concurrency=concurrency)
    asyncio.run(asyncio.wait_for(all_of_them(client), 20))
    spent = client.budget.spent().tokens
    assert spent == n_paid * real
    assert 1_000 - reserved < spent <= 1_000
