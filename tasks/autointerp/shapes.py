"""The form of requests that an endpoint accepts: learnt from its refusals, and stored.

Endpoints agree on the messages and differ in everything else: models that think need
``max_completion_tokens`` and no temperature, servers support ``json_schema``, ``json_object`` or neither,
some chat templates have no system role. A refusal (HTTP 400 or 422) that names a part of the request
changes the form once; the question is sent again at once.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from catalog.durable import make_folder, replace_file, to_json
from tasks.autointerp.chat import PROBE, ChatRequest, Message
from tasks.autointerp.endpoint import EndpointProfile, ResponseFormat, TokenLimit

logger = logging.getLogger(__name__)

MOST_CHANGES = 8
MOST_CHARS = 4_000
_OURS = ("max_tokens", "max_completion_tokens", "temperature", "response_format", "logprobs", "top_logprobs")
ROOMS = (4_096, 16_384)
"""Tokens added for thoughts, step by step, if a reply shows that the model needs them."""
REMEMBERED_SECONDS = 86_400.0
SCHEMA = "Reply with nothing but one JSON object that satisfies this JSON schema:\n{schema}"
PLAIN = "Reply with nothing but one JSON object."
_FALLBACKS: dict[ResponseFormat, ResponseFormat] = {"json_schema": "json_object", "json_object": "none"}
_ABOUT_FORMATS = ("response_format", "json_schema", "json_object", "structured output", "guided")
_ABOUT_ROLES = ("system role", "roles must alternate", "role 'system'", "system message")
_AT_MOST = re.compile(r"(?:at most|maximum of|less than or equal to|not exceed|<=)\s*(\d+)")
_TOO_LONG = ("context length", "context_length", "maximum context", "too long", "context window")


@dataclass(frozen=True, slots=True)
class RequestShape:
    """The form in which a question becomes a request."""

    token_limit: TokenLimit = "max_tokens"
    response_format: ResponseFormat = "json_schema"
    sends_temperature: bool = True
    has_system_role: bool = True
    sends_logprobs: bool = True
    """Whether to ask for the probabilities of tokens, where a question wants them."""
    most_logprobs: int | None = None
    """Most alternatives of a token that the endpoint gives."""
    room: int = 0
    """Tokens added to every limit for the thoughts of the model before its answer."""
    most_tokens: int | None = None
    """Largest limit that the endpoint accepts."""

    @classmethod
    def of(cls, profile: EndpointProfile) -> "RequestShape":
        """The first shape to try."""
        return cls(profile.token_limit, profile.response_format, room=profile.reasoning_tokens)

    def parameters(
        self, request: ChatRequest, messages: Sequence[Message], temperature: float
    ) -> dict[str, Any]:
        """The parameters to send besides the model."""
        sent: dict[str, Any] = {"messages": [asdict(message) for message in self._spoken(request, messages)]}
        if self.token_limit != "none":
            sent[self.token_limit] = self.limit(request)
        if self.sends_temperature:
            sent["temperature"] = temperature
        if request.top_logprobs and self.sends_logprobs:
            most = self.most_logprobs or request.top_logprobs
            sent.update(logprobs=True, top_logprobs=min(request.top_logprobs, most))
        if self.response_format == "json_object":
            sent["response_format"] = {"type": "json_object"}
        elif self.response_format == "json_schema":
            schema = {"name": request.reply.__name__, "schema": request.reply.model_json_schema()}
            sent["response_format"] = {"type": "json_schema", "json_schema": {**schema, "strict": True}}
        return sent

    def limit(self, request: ChatRequest) -> int:
        """Limit on the tokens of a reply, including thoughts."""
        return min(request.max_tokens + self.room, self.most_tokens or sys.maxsize)

    def _spoken(self, request: ChatRequest, messages: Sequence[Message]) -> list[Message]:
        """The messages, with the form of the reply in words if it is not sent as a schema."""
        spoken = list(messages)
        if self.response_format != "json_schema":
            schema = json.dumps(request.reply.model_json_schema())
            told = PLAIN if request.purpose == PROBE else SCHEMA.format(schema=schema)
            last = next(i for i in reversed(range(len(spoken))) if spoken[i].role == "user")
            spoken[last] = replace(spoken[last], content=f"{spoken[last].content}\n\n{told}")
        if not self.has_system_role and spoken[0].role == "system":
            first = replace(spoken[1], content=f"{spoken[0].content}\n\n{spoken[1].content}")
            spoken = [first, *spoken[2:]]
        return spoken

    def after_refusal(self, body: str) -> "tuple[RequestShape, str] | None":
        """The shape without the part that an error body names, and the change; None if it names nothing.

        Args:
            body: The body of the error, unchanged.
        """
        said = _named(body)
        if any(words in said for words in _TOO_LONG):
            return None
        if self.sends_logprobs and "logprobs" in said:
            fewer = _AT_MOST.search(said)
            if fewer is not None and int(fewer[1]) > 0 and self.most_logprobs is None:
                return replace(self, most_logprobs=int(fewer[1])), f"top_logprobs ≤ {fewer[1]}"
            return self.without_logprobs()
        if any(words in said for words in _ABOUT_FORMATS) and self.response_format in _FALLBACKS:
            weaker = _FALLBACKS[self.response_format]
            return replace(self, response_format=weaker), f"{self.response_format} → {weaker}"
        if self.token_limit != "none" and ("max_tokens" in said or "max_completion_tokens" in said):
            most = _AT_MOST.search(said)
            if most is not None and int(most[1]) > 0:
                return replace(self, most_tokens=int(most[1])), f"{self.token_limit} ≤ {most[1]}"
            other: TokenLimit = "max_completion_tokens" if self.token_limit == "max_tokens" else "none"
            return replace(self, token_limit=other), f"{self.token_limit} → {other}"
        if self.sends_temperature and "temperature" in said:
            return replace(self, sends_temperature=False), "temperature → the endpoint's own"
        if self.has_system_role and any(words in said for words in _ABOUT_ROLES):
            return replace(self, has_system_role=False), "system message → first user message"
        return None

    def without_logprobs(self) -> "tuple[RequestShape, str]":
        """The shape that asks for no probabilities, and the change."""
        return replace(self, sends_logprobs=False), "probabilities of tokens → none"

    def with_room(self) -> "RequestShape | None":
        """The shape with more room for thoughts, or None if there is enough."""
        larger = [room for room in ROOMS if room > self.room]
        return replace(self, room=larger[0]) if larger and self.token_limit != "none" else None


def _named(body: str) -> str:
    """What an error body names in lower case: its ``param`` or ``loc`` if that is one of ours, else its text.

    Bodies that repeat the whole request would otherwise name everything.
    """
    try:
        plain = json.loads(body)
    except ValueError:
        return body[:MOST_CHARS].lower()
    named: list[str] = []
    texts: list[str] = []

    def walk(value: Any, name: str) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                if key != "input":
                    walk(inner, str(key))
        elif isinstance(value, list):
            for inner in value:
                walk(inner, name)
        elif isinstance(value, str):
            (named if name in ("param", "loc") else texts).append(value.lower())

    walk(plain, "")
    ours = " ".join(one for one in named if one.split(".")[0] in _OURS)
    said = " ".join(texts)[:MOST_CHARS]
    return f"{ours} {said}" if not ours or "max" in ours or "logprobs" in ours else ours


class ShapeMemory:
    """The shape that one endpoint and model accept, stored in a file for a day."""

    def __init__(self, profile: EndpointProfile, folder: Path | None = None) -> None:
        self.profile = profile
        self.shape = RequestShape.of(profile)
        self._path = None if folder is None else folder / f"{profile.name}-shape.json"
        self._asked = {"base_url": profile.base_url, "model": profile.model, "from": asdict(self.shape)}
        self._recall()

    def refused(self, sent: RequestShape, body: str) -> bool:
        """Learn from the refusal of a request of the shape ``sent``; return whether to send it again."""
        if sent != self.shape:
            return True
        learnt = sent.after_refusal(body)
        if learnt is not None:
            self._remember(*learnt)
        return learnt is not None

    def gave_no_logprobs(self) -> bool:
        """Learn that a request for probabilities gets none; return whether that is new."""
        is_new = self.shape.sends_logprobs
        if is_new:
            self._remember(*self.shape.without_logprobs())
        return is_new

    def thought_too_long(self) -> bool:
        """Learn from a reply that was cut off in its thoughts; return whether to ask again."""
        roomier = self.shape.with_room()
        if roomier is not None:
            self._remember(roomier, f"{self.shape.room} → {roomier.room} tokens for thoughts")
        return roomier is not None

    def _remember(self, shape: RequestShape, change: str) -> None:
        self.shape = shape
        logger.warning("endpoint %r, model %r: %s", self.profile.name, self.profile.model, change)
        if self._path is not None:
            make_folder(self._path.parent)
            replace_file(self._path, to_json({"asked": self._asked, "shape": asdict(shape)}), "shape")

    def _recall(self) -> None:
        """Load what was learnt within the last day about the same endpoint, model and profile."""
        try:
            if self._path is None or time.time() - self._path.stat().st_mtime > REMEMBERED_SECONDS:
                return
            stored: Mapping[str, Any] = json.loads(self._path.read_bytes())
            if stored["asked"] == self._asked:
                self.shape = RequestShape(**stored["shape"])
        except (OSError, ValueError, KeyError, TypeError):
            return
