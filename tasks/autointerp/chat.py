"""Questions to a language model and their outcomes as plain types, without a client.

It is separate from ``client.py`` so that reading a configuration does not import the openai package.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from catalog.errors import UserError
from catalog.ids import digest
from catalog.schemas import CallOutcome
from tasks.autointerp.logprobs import ReplyToken

KEY_NONCE = "0" * 16
PROBE = "probe"
"""Purpose of the question that tests an endpoint."""


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

    ``messages`` builds the prompt from a nonce that fences corpus text. The identity of a request (its
    digest, the key of the prompt cache) does not depend on the nonce; the text that is sent does. ``unit``
    names the subject of the question within the stage, so that equal prompts of two features stay two
    records.
    """

    purpose: str
    unit: str
    messages: Callable[[str], Sequence[Message]]
    reply: type[Reply]
    max_tokens: int = 200
    temperature: float = 0.0
    check: Callable[[Reply], str | None] | None = None
    """The fault of a reply that satisfies the schema, or None."""
    top_logprobs: int = 0
    """Alternatives of each token to ask for, if the endpoint gives their probabilities."""

    def digest(self, model: str, answer_settings: Mapping[str, Any]) -> str:
        """SHA-256 of model, messages, schema and settings, including those of the endpoint's profile."""
        told = {"top_logprobs": self.top_logprobs} if self.top_logprobs else {}
        return digest(
            {
                "model": model,
                "messages": [asdict(message) for message in self.messages(KEY_NONCE)],
                "schema": self.reply.model_json_schema(),
                "settings": {
                    "max_tokens": self.max_tokens,
                    "temperature": self.temperature,
                    **answer_settings,
                    **told,
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
    """The outcome of a question: a valid reply exactly if ``outcome`` is ``ok``."""

    record: CallRecord
    value: Reply | None
    error: str | None
    tokens: tuple[ReplyToken, ...] = ()
    """The tokens of a valid reply with their alternatives, if requested and given."""

    @property
    def outcome(self) -> CallOutcome:
        """ok, invalid, refused, truncated, filtered or error."""
        return self.record.outcome


class ChatClient(Protocol):
    """Anything that answers chat requests."""

    @property
    def model(self) -> str:
        """Name of the model at the endpoint."""
        ...

    @property
    def probes(self) -> bool:
        """Whether to test first if the endpoint enforces schemas."""
        ...

    @property
    def concurrency(self) -> int:
        """Maximum number of concurrent questions."""
        ...

    @property
    def gives_logprobs(self) -> bool:
        """Whether the endpoint gives the probabilities of tokens, as far as is known."""
        ...

    @property
    def last_error(self) -> str | None:
        """The reason why the last unanswered question got no answer."""
        ...

    async def ask(self, request: ChatRequest) -> ChatReply:
        """Answer, or report the failure; raise `Stopped` if further questions are pointless."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class Stopped(UserError):
    """Further questions are pointless now: budget spent, quota used up, endpoint down or asking to wait.

    Answers so far are kept. Unanswered questions have no outcome, and a rerun asks them. ``resume_seconds``
    is the time after which the endpoint accepts questions again, if it gave one.
    """

    def __init__(self, message: str, resume_seconds: float | None = None) -> None:
        super().__init__(message)
        self.resume_seconds = resume_seconds


class Spent(Stopped):
    """A budget has no room for another question; there may be some once questions under way are paid."""
