"""Asks a question until it has an outcome: cache, budget, tries, deadline, validation.

This module knows nothing about HTTP; every outcome is one of those of ``llm_calls``, or `Stopped`.
"""

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from catalog.ids import digest
from catalog.schemas import CallOutcome
from tasks.autointerp.budget import Budget, Reservation, Spend
from tasks.autointerp.chat import CallRecord, ChatReply, ChatRequest, Message, Reply, Spent, Stopped
from tasks.autointerp.endpoint import EndpointProfile
from tasks.autointerp.logprobs import ReplyToken, tokens_from_plain
from tasks.autointerp.patience import Patience
from tasks.autointerp.prompt_cache import Answers
from tasks.autointerp.replies import Completion, Rejected, Unavailable, judge_reply
from tasks.autointerp.rows import now_text
from tasks.autointerp.scrub import scrub

TOKENS_PER_MESSAGE = 32
"""Chat templates add role and separator tokens; the bound on the cost must hold for all."""
MAX_REPAIRED_CHARS = 2_000
"""A wrong reply is sent back in part: its beginning shows what is wrong."""
MAX_PARKINGS = 5
"""An endpoint that asks to wait again and again would hold a question for ever."""
REPAIR = "Not a valid reply ({problem}). Reply again with nothing but the JSON object that was asked for."


class Wire(Protocol):
    """Sends one request; raises `Unavailable`, `Rejected` or `Stopped`."""

    @property
    def gives_logprobs(self) -> bool:
        """Whether the endpoint gives the probabilities of tokens, as far as is known."""
        ...

    def most_tokens(self, request: ChatRequest) -> int:
        """Limit on the tokens of a reply to the request."""
        ...

    def give_room(self, sent_limit: int, request: ChatRequest) -> bool:
        """Give later requests more tokens for thoughts; return whether asking again may help."""
        ...

    async def complete(self, request: ChatRequest, messages: Sequence[Message]) -> Completion:
        """Send the messages and return the reply."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


@dataclass(slots=True)
class _Course:
    """The state of one question so far."""

    started: float
    deadline: float
    attempts: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float = 0.0
    finish_reason: str | None = None
    messages: list[Message] = field(default_factory=list)
    tokens: tuple[ReplyToken, ...] = ()


class Asker:
    """A chat client for one endpoint, to be used within one event loop at a time."""

    def __init__(
        self, profile: EndpointProfile, wire: Wire, answers: Answers, budget: Budget, owner: str
    ) -> None:
        self.profile = profile
        self.wire = wire
        self.answers = answers
        self.budget = budget
        self.owner = owner
        self._patience = Patience(profile)
        self._slots = asyncio.Semaphore(profile.concurrency)
        self._n_under_way = 0
        self._settled = asyncio.Event()

    @property
    def model(self) -> str:
        """Name of the model at the endpoint."""
        return self.profile.model

    @property
    def concurrency(self) -> int:
        """Number of concurrent questions."""
        return self.profile.concurrency

    @property
    def probes(self) -> bool:
        """Whether to test first if the endpoint enforces schemas."""
        return self.profile.probe

    @property
    def gives_logprobs(self) -> bool:
        """Whether the endpoint gives the probabilities of tokens, as far as is known."""
        return self.wire.gives_logprobs

    @property
    def last_error(self) -> str | None:
        """The reason why the last unanswered question got no answer."""
        return self._patience.last_error

    async def ask(self, request: ChatRequest) -> ChatReply:
        """Answer from the cache or the endpoint; every failure of only this question is an outcome.

        Raises:
            Stopped: when the budget or quota is used up, the key is refused, the endpoint asks for a wait
                that is longer than allowed, or too many questions failed in a row.
        """
        if request.top_logprobs and not self.wire.gives_logprobs:
            request = replace(request, top_logprobs=0)
        key = request.digest(self.model, self.profile.answer_settings)
        asked_as = digest([self.owner, request.purpose, request.unit, key])[:32]
        known = self.answers.get(key)
        if known is not None:
            return _replay(request, asked_as, known)
        async with self._slots:
            self._patience.check()
            now = time.monotonic()
            course = _Course(now, now + self.profile.deadline_seconds)
            try:
                outcome, value, error = await self._converse(request, course)
            except Stopped as stop:
                self._patience.stopped = stop
                raise
        call_id = digest([asked_as, now_text()])[:32]
        tokens = course.tokens if value is not None and request.top_logprobs else ()
        reply = ChatReply(self._record(request, call_id, key, course, outcome), value, error, tokens)
        self._patience.count(error if outcome == "error" else None)
        entry = {"asked_as": asked_as, "reply": value and value.model_dump_json(), "error": error}
        told = {"tokens": [token.to_plain() for token in tokens]} if tokens else {}
        self.answers.put(key, {**entry, **told, "record": reply.record.to_plain()})
        return reply

    async def close(self) -> None:
        """Close connections and clear the reason for stopping: a later run may try again."""
        await self.wire.close()
        self._patience = Patience(self.profile)
        self._slots = asyncio.Semaphore(self.profile.concurrency)

    async def _converse(
        self, request: ChatRequest, course: _Course
    ) -> tuple[CallOutcome, Reply | None, str | None]:
        """Ask, validate the reply, and ask once more if it does not fit the schema or was cut off."""
        course.messages = self._messages(request)
        question = "\n".join(message.content for message in course.messages if message.role == "user")
        while True:
            limit = self.wire.most_tokens(request)
            completion, error = await self._try(request, course)
            if completion is None:
                return "error", None, error
            outcome, value, problem = judge_reply(request, completion, question)
            if not (
                outcome == "truncated" and completion.ends_in_thoughts and self.wire.give_room(limit, request)
            ):
                break
        if outcome != "invalid":
            return outcome, value, problem
        course.messages += [
            Message("assistant", (completion.text or "")[:MAX_REPAIRED_CHARS]),
            Message("user", REPAIR.format(problem=problem)),
        ]
        completion, error = await self._try(request, course)
        if completion is None:
            return "invalid", None, f"{problem}; asked again: {error}"
        return judge_reply(request, completion, question)

    async def _try(self, request: ChatRequest, course: _Course) -> tuple[Completion | None, str | None]:
        """One answer from the endpoint, with tries and waits, or the reason for none."""
        error = f"no answer within {self.profile.deadline_seconds:g} s"
        n_tries = n_parkings = 0
        while n_tries < self.profile.attempts and n_parkings <= MAX_PARKINGS:
            course.deadline += await self._patience.turn()
            left = course.deadline - time.monotonic()
            if left <= 0:
                break
            try:
                return await self._send(request, course, min(left, self.profile.attempt_seconds)), None
            except Rejected as rejection:
                return None, str(rejection)
            except Unavailable as failure:
                error = str(failure)
                if self._patience.park(failure.wait_seconds):
                    n_parkings += 1
                    continue
                n_tries += 1
                if n_tries < self.profile.attempts:
                    await self._patience.pause(n_tries, failure.wait_seconds, course.deadline)
        return None, error

    async def _send(self, request: ChatRequest, course: _Course, seconds: float) -> Completion:
        """One request within ``seconds``: reserve its cost before, record it after."""
        most_prompt = sum(len(m.content.encode()) + TOKENS_PER_MESSAGE for m in course.messages)
        most = self._spend(most_prompt, self.wire.most_tokens(request))
        reservation = await self._reserve(most, course)
        actual = Spend()
        course.attempts += 1
        self._n_under_way += 1
        try:
            async with asyncio.timeout(seconds):
                completion = await self.wire.complete(request, course.messages)
            sent, received = completion.prompt_tokens, completion.completion_tokens
            actual = most if sent is None or received is None else self._spend(sent, received)
        except TimeoutError:
            actual = most
            raise Unavailable(f"no answer within {seconds:.1f} s", answered=True) from None
        except (Unavailable, Rejected) as failure:
            actual = most if failure.answered else actual
            raise
        finally:
            course.cost_usd += actual.usd
            self.budget.settle(reservation, actual)
            self._n_under_way -= 1
            self._settled.set()
        course.prompt_tokens = _plus(course.prompt_tokens, sent)
        course.completion_tokens = _plus(course.completion_tokens, received)
        course.finish_reason, course.tokens = completion.finish_reason, completion.tokens
        return completion

    async def _reserve(self, most: Spend, course: _Course) -> Reservation:
        """Reserve the maximum cost; wait while questions under way may turn out cheaper than reserved.

        A reservation counts every byte of the prompt as a token and the longest reply, so without the wait a
        budget would end with a good part of it unused. The wait does not count against the deadline.

        Raises:
            Spent: when the budget has no room although no question is under way.
        """
        began = time.monotonic()
        while True:
            try:
                reservation = self.budget.reserve(most)
            except Spent:
                if not self._n_under_way:
                    raise
                self._settled.clear()
                await self._settled.wait()
            else:
                course.deadline += time.monotonic() - began
                return reservation

    def _messages(self, request: ChatRequest) -> list[Message]:
        """The prompt with a fresh nonce; secrets are removed from text for a remote endpoint."""
        messages = list(request.messages(secrets.token_hex(8)))
        if not self.profile.is_scrubbed:
            return messages
        return [replace(message, content=scrub(message.content)) for message in messages]

    def _spend(self, prompt_tokens: int, completion_tokens: int) -> Spend:
        cost = self.profile.cost_usd(prompt_tokens, completion_tokens)
        return Spend(cost, prompt_tokens + completion_tokens)

    def _record(
        self, request: ChatRequest, call_id: str, key: str, course: _Course, outcome: CallOutcome
    ) -> CallRecord:
        return CallRecord(
            call_id=call_id,
            purpose=request.purpose,
            endpoint=self.profile.name,
            model=self.model,
            prompt_digest=key,
            prompt_tokens=course.prompt_tokens,
            completion_tokens=course.completion_tokens,
            cost_usd=course.cost_usd,
            latency_ms=(time.monotonic() - course.started) * 1000,
            attempts=course.attempts,
            outcome=outcome,
            finish_reason=course.finish_reason,
            cached=False,
        )


def _replay(request: ChatRequest, asked_as: str, entry: dict[str, Any]) -> ChatReply:
    """A cached answer; free, unless this question got it before the process was killed."""
    record = CallRecord(**entry["record"])
    if entry.get("asked_as", record.call_id) != asked_as:
        free: dict[str, Any] = {"cost_usd": 0.0, "latency_ms": 0.0, "attempts": 0, "cached": True}
        record = replace(record, call_id=asked_as, purpose=request.purpose, **free)
    is_ok = record.outcome == "ok"
    value = request.reply.model_validate_json(entry["reply"]) if is_ok else None
    return ChatReply(record, value, entry["error"], tokens_from_plain(entry.get("tokens", ())))


def _plus(a: int | None, b: int | None) -> int | None:
    return a if b is None else (a or 0) + b
