"""A real HTTP server on loopback that speaks the OpenAI chat protocol and misbehaves on demand.

`FakeOpenAI(brain)` answers ``POST /v1/chat/completions``. ``brain`` gets a `Question` and returns the
text of the reply or a `Fault`, one of the ways in which endpoints go wrong. What was asked and what was
charged is counted, so that a test can hold the spend against a budget.
"""

import json
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

FaultName = Literal[
    "rate_limit",
    "rate_limit_ms",
    "quota",
    "server_error",
    "hang",
    "trickle",
    "reset",
    "html",
    "bad_json",
    "error_body",
    "no_choices",
    "null_choices",
    "length",
    "content_filter",
    "refusal",
    "huge",
    "redirect",
    "unauthorised",
    "no_model",
    "bad_request",
    "gzip",
]


@dataclass(frozen=True)
class Fault:
    """A way to go wrong; ``retry_after`` goes with ``rate_limit``, ``seconds`` with ``hang``."""

    name: FaultName
    retry_after: str = "1"
    seconds: float = 30.0


@dataclass(frozen=True)
class Message:
    """A reply in a form of its own: fields of the message, beside how it ended and what it used."""

    fields: dict[str, Any]
    finish_reason: str | None = "stop"
    usage: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Raw:
    """Any status and body."""

    status: int
    body: Any
    content_type: str = "application/json"


@dataclass(frozen=True)
class Question:
    """A request as a brain sees it: number from 1, parsed body, headers."""

    number: int
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def text(self) -> str:
        """All messages joined."""
        return "\n".join(message["content"] for message in self.body["messages"])

    @property
    def passages(self) -> list[str]:
        """The fenced passages of a prompt, in order."""
        nonce = re.search(r"<passage-([0-9a-f]{16})>", self.body["messages"][-1]["content"])
        if nonce is None:
            nonce = re.search(r"<passage-([0-9a-f]{16})>", self.text)
        if nonce is None:
            return []
        fence = rf"<passage-{nonce[1]}>\n(.*?)\n</passage-{nonce[1]}>"
        return re.findall(fence, self.body["messages"][1]["content"], re.S)

    @property
    def explanation(self) -> str:
        """The fenced explanation of a judge's prompt."""
        found = re.search(r"<explanation-([0-9a-f]{16})>\n(.*?)\n</explanation-\1>", self.text, re.S)
        return found[2] if found else ""


Answer = str | Fault | Message | Raw
Brain = Callable[[Question], Answer]


def answers(values: Iterable[bool | int]) -> str:
    """The reply of a judge."""
    return json.dumps({"answers": [int(value) for value in values]})


def explanation(text: str) -> str:
    """The reply of an explainer."""
    return json.dumps({"explanation": text})


def refusal(message: str, param: str | None = None, code: str | None = None, status: int = 400) -> Raw:
    """The refusal of a request, in the form of OpenAI."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return Raw(status, {"error": error})


@dataclass
class FakeOpenAI:
    """Use as a context manager; ``base_url`` goes into an endpoint profile."""

    brain: Brain
    prompt_tokens: int = 100
    completion_tokens: int = 10
    with_usage: bool = True
    port: int = 0
    questions: list[Question] = field(default_factory=list)
    charged_tokens: int = 0
    most_at_once: int = 0

    def __enter__(self) -> "FakeOpenAI":
        self._lock = threading.Lock()
        self._at_once = 0
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", self.port), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @property
    def n_questions(self) -> int:
        """Requests received."""
        return len(self.questions)

    def receive(self, body: dict[str, Any], headers: dict[str, str]) -> Question:
        """Count a request and give it its number."""
        with self._lock:
            question = Question(len(self.questions) + 1, body, headers)
            self.questions.append(question)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            return question

    def leave(self) -> None:
        """Count a request out again."""
        with self._lock:
            self._at_once -= 1

    def charge(self) -> dict[str, int] | None:
        """Charge for one answer and return its ``usage``."""
        with self._lock:
            self.charged_tokens += self.prompt_tokens + self.completion_tokens
        if not self.with_usage:
            return None
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }

    def wait(self, seconds: float) -> None:
        """Sleep, but not longer than the server lives."""
        self._closing.wait(seconds)


def completion(fake: FakeOpenAI, content: str | None, **choice: Any) -> dict[str, Any]:
    """A chat completion body with one choice."""
    message = {"role": "assistant", "content": content, "refusal": choice.pop("refusal", None)}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "fake",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}],
        "usage": fake.charge(),
    }


def _handler(fake: FakeOpenAI) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", 0))
            body = self.rfile.read(length)
            if len(body) < length or not body:
                self.close_connection = True
                return
            question = fake.receive(json.loads(body), dict(self.headers))
            try:
                self._reply(fake.brain(question))
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                fake.leave()

        def do_GET(self) -> None:
            fake.receive({"messages": [{"content": self.path}]}, dict(self.headers))
            self._send(200, b"{}")
            fake.leave()

        def log_message(self, *args: object) -> None:
            """Keep quiet."""

        def _reply(self, answer: Answer) -> None:
            if isinstance(answer, str):
                self._send(200, json.dumps(completion(fake, answer)).encode())
            elif isinstance(answer, Message):
                body = completion(fake, None, finish_reason=answer.finish_reason)
                body["choices"][0]["message"] = {"role": "assistant", **answer.fields}
                body["usage"] = {**(body["usage"] or {}), **answer.usage} or None
                self._send(200, json.dumps(body).encode())
            elif isinstance(answer, Raw):
                sent = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
                self._send(answer.status, sent.encode(), {"content-type": answer.content_type})
            elif answer.name in _BODIES:
                status, body, headers = _BODIES[answer.name](fake, answer)
                self._send(status, body, headers)
            else:
                self._break(answer)

        def _break(self, fault: Fault) -> None:
            self.close_connection = True
            if fault.name == "hang":
                fake.wait(fault.seconds)
            elif fault.name == "reset":
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
            elif fault.name == "trickle":
                body = json.dumps(completion(fake, answers([1]))).encode()
                self._head(200, len(body), {})
                started = time.monotonic()
                for byte in body:
                    if time.monotonic() - started > fault.seconds:
                        break
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    fake.wait(0.3)
            else:
                raise AssertionError(f"unknown fault {fault.name}")

        def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self._head(status, len(body), headers or {})
            self.wfile.write(body)

        def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"content-type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(length))
            self.end_headers()

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what the faults are about."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


Body = tuple[int, bytes, dict[str, str]]


def _error(status: int, message: str, code: str | None = None, **headers: str) -> Body:
    error = {"error": {"message": message, "type": code, "code": code}}
    return status, json.dumps(error).encode(), {name.replace("_", "-"): v for name, v in headers.items()}


def _plain(body: object, status: int = 200) -> Body:
    return status, json.dumps(body).encode(), {}


_BODIES: dict[str, Callable[[FakeOpenAI, Fault], Body]] = {
    "rate_limit": lambda fake, fault: _error(429, "slow down", "rate_limit", retry_after=fault.retry_after),
    "rate_limit_ms": lambda fake, fault: _error(429, "slow", "rate_limit", retry_after_ms=fault.retry_after),
    "quota": lambda fake, fault: _error(429, "no money left", "insufficient_quota"),
    "server_error": lambda fake, fault: _error(500, "oops"),
    "unauthorised": lambda fake, fault: _error(401, "Incorrect API key provided: sk-secret"),
    "no_model": lambda fake, fault: _error(404, "no such model", "model_not_found"),
    "bad_request": lambda fake, fault: _error(400, "context too long", "context_length_exceeded"),
    "redirect": lambda fake, fault: (302, b"", {"location": f"{fake.base_url}/elsewhere"}),
    "html": lambda fake, fault: (200, b"<html>login</html>", {"content-type": "text/html"}),
    "bad_json": lambda fake, fault: (200, b'{"choices": [', {}),
    "error_body": lambda fake, fault: _plain({"error": {"message": "internal"}}),
    "null_choices": lambda fake, fault: _plain({**completion(fake, None), "choices": None}),
    "no_choices": lambda fake, fault: _plain({**completion(fake, None), "choices": []}),
    "length": lambda fake, fault: _plain(completion(fake, '{"answers": [1', finish_reason="length")),
    "content_filter": lambda fake, fault: _plain(completion(fake, None, finish_reason="content_filter")),
    "refusal": lambda fake, fault: _plain(completion(fake, None, refusal="I cannot help with that.")),
    "huge": lambda fake, fault: _plain(completion(fake, "x" * 50_000_000)),
    "gzip": lambda fake, fault: (200, b"\x1f\x8b" + b"\0" * 64, {"content-encoding": "gzip"}),
}
