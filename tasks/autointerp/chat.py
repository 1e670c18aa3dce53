"""What is asked of a language model and what comes back, without any client: plain types.

Kept apart from ``client.py`` so that reading a configuration does not import the openai package.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from catalog.errors import UserError
from catalog.ids import digest
from catalog.schemas import CallOutcome

Purpose = Literal["explain", "detection", "fuzzing", "probe"]
KEY_NONCE = "0" * 16


class Reply(BaseModel):
    """Base of every reply schema: exact fields, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question.

    ``messages`` builds the prompt from a nonce that fences corpus text; what a request is (its digest,
    the key of the prompt cache) does not depend on the nonce, what is sent does. ``unit`` names what
    the question is about within the stage, so that equal prompts of two features stay two records.
    """

    purpose: Purpose
    unit: str
    messages: Callable[[str], Sequence[Message]]
    reply: type[Reply]
    max_tokens: int = 200
    temperature: float = 0.0
    check: Callable[[Reply], str | None] | None = None
    """Returns what is wrong with a reply that satisfies the schema, or None."""

    def digest(self, model: str, answer_settings: Mapping[str, Any]) -> str:
        """SHA-256 of model, messages, schema and settings, those of the endpoint's profile included."""
        return digest(
            {
                "model": model,
                "messages": [asdict(message) for message in self.messages(KEY_NONCE)],
                "schema": self.reply.model_json_schema(),
                "settings": {
                    "max_tokens": self.max_tokens,
                    "temperature": self.temperature,
                    **answer_settings,
                },
            }
        )


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One row of ``llm_calls`` before run id and time are known."""

    call_id: str
    purpose: str
    endpoint: str
    model: str
    prompt_digest: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float
    latency_ms: float
    attempts: int
    outcome: CallOutcome
    finish_reason: str | None
    cached: bool

    def to_plain(self) -> dict[str, Any]:
        """The record as JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ChatReply:
    """How a question ended: a valid reply exactly if ``outcome`` is ``ok``."""

    record: CallRecord
    value: Reply | None
    error: str | None

    @property
    def outcome(self) -> CallOutcome:
        """ok, invalid, refused, truncated, filtered or error."""
        return self.record.outcome


class ChatClient(Protocol):
    """Anything that answers chat requests."""

    @property
    def model(self) -> str:
        """Model as the endpoint calls it."""
        ...

    @property
    def probes(self) -> bool:
        """Whether to ask first if the endpoint enforces schemas."""
        ...

    @property
    def concurrency(self) -> int:
        """How many questions may be under way at once."""
        ...

    @property
    def last_error(self) -> str | None:
        """Why the last question that got no answer got none."""
        ...

    async def ask(self, request: ChatRequest) -> ChatReply:
        """Answer, or say how it failed; raises `Stopped` when asking on makes no sense."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Stopped(UserError):
    """Asking on makes no sense now: budget spent, quota gone, endpoint down or asking to wait.

    What was answered stays; what was not is left without an outcome, and a rerun asks for it.
    ``resume_seconds`` says in how many seconds the endpoint wants to be asked again, where it said so.
    """

    def __init__(self, message: str, resume_seconds: float | None = None) -> None:
        super().__init__(message)
        self.resume_seconds = resume_seconds
