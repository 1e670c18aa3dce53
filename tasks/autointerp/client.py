"""The connection to an OpenAI-compatible endpoint; the only file that imports openai.

It turns the endpoint's reaction into a `Completion` or one of three failures: `Unavailable` (trying again may
help), `Rejected` (this question will never be answered) and `Stopped` (no question will).
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, cast

import httpx2
import openai

from tasks.autointerp.asking import Asker
from tasks.autointerp.budget import Budget, PurposeLimit, RunLimit
from tasks.autointerp.chat import PROBE, ChatRequest, Message, Stopped
from tasks.autointerp.endpoint import EndpointProfile, load_api_key, load_endpoint
from tasks.autointerp.prompt_cache import Answers, PromptCache
from tasks.autointerp.reading import read_completion
from tasks.autointerp.replies import Completion, Rejected, Unavailable
from tasks.autointerp.shapes import MOST_CHANGES, ShapeMemory

MAX_ERROR_CHARS = 200
TELLING = (400, 415, 422, 500, 501)
"""Status codes that may refuse a part of the request: servers use client and server errors for it."""


def open_client(
    endpoint: str,
    *,
    environ: Mapping[str, str],
    cache_folder: Path,
    owner: str,
    scratch: Path | None = None,
    forced: bool = False,
    limit: RunLimit | None = None,
    purpose: PurposeLimit | None = None,
    config_path: Path = Path("featlas.toml"),
) -> Asker:
    """A client for a named endpoint profile.

    Args:
        environ: The environment with the profile's variables and the key.
        cache_folder: Holds the answers and the day's accounts of all endpoints.
        owner: The unit of work that pays, for example a stage's fingerprint: an answer that the same unit
            got before it was killed counts as new.
        scratch: Working folder of that unit, which holds replies that must stay private to it.
        forced: Whether the unit is repeated on request; then unusable replies are requested again.
        limit: What all endpoints together may cost in the run.
        purpose: What the explainer or scorer may cost in one day.

    Raises:
        UserError: for an unknown or wrong profile, a missing key, or a limit in USD without prices.
    """
    profile = load_endpoint(endpoint, environ, config_path)
    profile.check_prices(limit is not None or (purpose is not None and purpose.usd is not None))
    wire = OpenAIWire(profile, load_api_key(profile, environ), cache_folder / "shapes")
    own = None if scratch is None else PromptCache(scratch / "answers")
    answers = Answers(PromptCache(cache_folder / profile.name), own, forced=forced)
    return Asker(profile, wire, answers, Budget(cache_folder / "spend", profile, limit, purpose), owner)


class OpenAIWire:
    """One connection pool; no redirects, no compression, a limit on the reply size, no retries of its own."""

    def __init__(self, profile: EndpointProfile, api_key: str, memory: Path | None = None) -> None:
        """
        Args:
            profile: The endpoint and its settings.
            api_key: Sent as bearer token.
            memory: Folder that records which form of requests the endpoint accepts.
        """
        self.profile = profile
        self._api_key = api_key
        self._shapes = ShapeMemory(profile, memory)
        self._client: openai.AsyncOpenAI | None = None

    @property
    def gives_logprobs(self) -> bool:
        """Whether the endpoint gives the probabilities of tokens, as far as is known."""
        return self._shapes.shape.sends_logprobs

    def most_tokens(self, request: ChatRequest) -> int:
        """Limit on the tokens of a reply to the request."""
        return self._shapes.shape.limit(request)

    def give_room(self, sent_limit: int, request: ChatRequest) -> bool:
        """Give later requests more tokens for thoughts; return whether asking again may help."""
        return self.most_tokens(request) > sent_limit or self._shapes.thought_too_long()

    async def complete(self, request: ChatRequest, messages: Sequence[Message]) -> Completion:
        """Send one request; raises `Unavailable`, `Rejected` or `Stopped`, each with a reason.

        If the endpoint refuses an optional part, the form of requests changes, and this one is sent again.
        """
        own = self.profile.temperature
        temperature = request.temperature if own is None else own
        for _ in range(MOST_CHANGES):
            shape = self._shapes.shape
            try:
                return self._read(request, await self._send(shape.parameters(request, messages, temperature)))
            except openai.APIStatusError as error:
                is_learnt = error.status_code in TELLING and self._shapes.refused(shape, error.response.text)
                if not is_learnt and request.purpose == PROBE and error.status_code in (400, 422):
                    is_learnt = self._shapes.gave_no_logprobs()
                if not is_learnt:
                    raise self._status_failure(error) from None
            except _BadBody as error:
                raise Rejected(str(error), answered=True) from None
            except (openai.APIConnectionError, httpx2.HTTPError) as error:
                raise _connection_failure(error) from None
            except (openai.OpenAIError, ValueError) as error:
                raise Unavailable(f"unreadable reply: {type(error).__name__}", answered=True) from None
        raise Rejected("the endpoint refuses every form of the request")

    def _read(self, request: ChatRequest, body: str) -> Completion:
        """The completion; if the probe asked for probabilities and got none, that is learnt."""
        completion = read_completion(body)
        if request.purpose == PROBE and request.top_logprobs and completion.text and not completion.tokens:
            self._shapes.gave_no_logprobs()
        return completion

    async def _send(self, parameters: Mapping[str, Any]) -> str:
        """The body of the answer to one request."""
        body = {"model": self.profile.model, **parameters, **self.profile.extra_body}
        response = await self._connected().post("/chat/completions", cast_to=httpx2.Response, body=body)
        return response.text

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    def _connected(self) -> openai.AsyncOpenAI:
        if self._client is None:
            http_client = httpx2.AsyncClient(
                follow_redirects=False,
                trust_env=not self.profile.is_local,
                timeout=self.profile.attempt_seconds,
                limits=httpx2.Limits(max_connections=self.profile.concurrency),
                headers={"Accept-Encoding": "identity"},
                event_hooks={"response": [self._cap]},
            )
            self._client = openai.AsyncOpenAI(
                api_key=self._api_key,
                base_url=self.profile.base_url,
                max_retries=0,
                timeout=self.profile.attempt_seconds,
                http_client=http_client,
            )
        return self._client

    async def _cap(self, response: httpx2.Response) -> None:
        """Refuse a compressed body (its size differs from what arrives) and cut off one that is too large."""
        if response.headers.get("content-encoding", "identity") != "identity":
            raise _BadBody("a compressed reply that was not requested")
        response.stream = _CappedStream(cast(Any, response.stream), self.profile.max_body_bytes)

    def _status_failure(self, error: openai.APIStatusError) -> Exception:
        status, reason = error.status_code, self._reason(error)
        if status in (401, 403):
            return Stopped(f"endpoint {self.profile.name!r} refuses the key ({status}): check its API_KEY")
        if status == 404:
            return Stopped(
                f"endpoint {self.profile.name!r} knows no model {self.profile.model!r} at "
                f"{self.profile.base_url} (404): check model and base_url"
            )
        if status == 429 and "insufficient_quota" in (error.code, getattr(error, "type", None)):
            return Stopped(f"endpoint {self.profile.name!r}: the quota is used up, top it up and run again")
        if status == 429 or status >= 500 or status == 408:
            return Unavailable(f"HTTP {status}: {reason}", wait_seconds=_retry_after(error.response.headers))
        return Rejected(f"HTTP {status}: {reason}")

    def _reason(self, error: openai.APIStatusError) -> str:
        """The endpoint's message, short and without the key."""
        body = error.body if isinstance(error.body, dict) else {}
        said = str(body.get("message") or error.response.reason_phrase)
        return said.replace(self._api_key, "[key]")[:MAX_ERROR_CHARS]


def _connection_failure(error: Exception) -> Unavailable:
    cause = error.__cause__ or error
    sent = not isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout)
    return Unavailable(f"no answer: {type(cause).__name__}", answered=sent)


class _BadBody(Exception):
    """A reply that is not read further."""


class _CappedStream(httpx2.AsyncByteStream):
    """A body that ends with an error once it is longer than ``limit`` bytes."""

    def __init__(self, stream: httpx2.AsyncByteStream, limit: int) -> None:
        self._stream = stream
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        n_bytes = 0
        async for chunk in self._stream:
            n_bytes += len(chunk)
            if n_bytes > self._limit:
                raise _BadBody(f"a reply of more than {self._limit} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait according to the endpoint, from a number, a number of milliseconds or a date."""
    milliseconds = headers.get("retry-after-ms", "")
    if milliseconds.replace(".", "", 1).isdecimal():
        return float(milliseconds) / 1000
    text = headers.get("retry-after")
    if text is None:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (until.astimezone(UTC) - datetime.now(UTC)).total_seconds())
