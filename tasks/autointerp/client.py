"""The wire to an OpenAI-compatible endpoint; the only file that imports openai.

Turns whatever the other side does into a `Completion` or one of three failures: `Unavailable` (trying
again may help), `Rejected` (this question will never be answered) and `Stopped` (none will).
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, cast

import httpx2
import openai
from openai.types.chat import ChatCompletion

from tasks.autointerp.asking import Asker
from tasks.autointerp.budget import Budget
from tasks.autointerp.chat import ChatRequest, Message, Stopped
from tasks.autointerp.endpoint import EndpointProfile, load_api_key, load_endpoint
from tasks.autointerp.prompt_cache import Answers, PromptCache
from tasks.autointerp.replies import Completion, Rejected, Unavailable

MAX_ERROR_CHARS = 200


def open_client(
    endpoint: str,
    *,
    environ: Mapping[str, str],
    cache_folder: Path,
    owner: str,
    scratch: Path | None = None,
    forced: bool = False,
    config_path: Path = Path("featlas.toml"),
) -> Asker:
    """A client for a named endpoint profile.

    Args:
        environ: Where the profile's variables and the key are looked up.
        cache_folder: Holds the answers and the day's accounts of all endpoints.
        owner: The unit of work that pays, for example a stage's fingerprint: an answer that the same unit
            got before it was killed is told as if it had just come.
        scratch: Working folder of that unit, which keeps replies that nobody else should see again.
        forced: Whether the unit is done again on request: replies that were no use are asked for again.

    Raises:
        UserError: for an unknown or wrong profile, or a missing key.
    """
    profile = load_endpoint(endpoint, environ, config_path)
    wire = OpenAIWire(profile, load_api_key(profile, environ))
    own = None if scratch is None else PromptCache(scratch / "answers")
    answers = Answers(PromptCache(cache_folder / profile.name), own, forced=forced)
    return Asker(profile, wire, answers, Budget(cache_folder / "spend", profile), owner)


class OpenAIWire:
    """One connection pool; no redirects, no compression, a cap on what is read, no retries of its own."""

    def __init__(self, profile: EndpointProfile, api_key: str) -> None:
        self.profile = profile
        self._api_key = api_key
        self._client: openai.AsyncOpenAI | None = None

    async def complete(self, request: ChatRequest, messages: Sequence[Message]) -> Completion:
        """Send one request; raises `Unavailable`, `Rejected` or `Stopped`, each with a reason."""
        try:
            completion = await self._connected().chat.completions.create(
                model=self.profile.model,
                messages=cast(Any, [asdict(message) for message in messages]),
                max_tokens=request.max_tokens,
                temperature=request.temperature,
                response_format=cast(Any, _response_format(request)),
            )
        except openai.APIStatusError as error:
            raise self._status_failure(error) from None
        except _BadBody as error:
            raise Rejected(str(error), answered=True) from None
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            raise _connection_failure(error) from None
        except (openai.OpenAIError, json.JSONDecodeError, ValueError) as error:
            raise Unavailable(f"unreadable reply: {type(error).__name__}", answered=True) from None
        return _read(completion)

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
        """Refuse a compressed body (its size is not what arrives) and cut off one that is too large."""
        if response.headers.get("content-encoding", "identity") != "identity":
            raise _BadBody("a compressed reply that was not asked for")
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
        """What the endpoint says, short and without the key."""
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


def _response_format(request: ChatRequest) -> dict[str, Any]:
    schema = {"name": request.reply.__name__, "schema": request.reply.model_json_schema(), "strict": True}
    return {"type": "json_schema", "json_schema": schema}


def _read(completion: object) -> Completion:
    """Check what the openai package lets through: HTML as text, no choices, no message."""
    if not isinstance(completion, ChatCompletion):
        raise Unavailable("the reply is not a chat completion", answered=True)
    usage = completion.usage
    choices = completion.choices
    if not choices or choices[0].message is None:
        raise Unavailable("the reply has no choices", answered=True)
    message = choices[0].message
    return Completion(
        text=message.content if isinstance(message.content, str) else None,
        refusal=message.refusal if isinstance(message.refusal, str) else None,
        finish_reason=str(choices[0].finish_reason)[:40] if choices[0].finish_reason else None,
        prompt_tokens=_count(usage.prompt_tokens if usage else None),
        completion_tokens=_count(usage.completion_tokens if usage else None),
    )


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 2**31 else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as the endpoint asks, from a number or a date."""
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
