"""Parses replies of endpoints in every form that servers use: bodies, parts, tool calls, streams.

Nothing is trusted: a field of the wrong type counts as absent. Servers send content as a list of parts, the
answer as the arguments of a tool call, thoughts next to the content (``reasoning_content``, ``reasoning``),
and events even if no stream was requested.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tasks.autointerp.logprobs import read_tokens
from tasks.autointerp.replies import Completion, Unavailable
from tasks.autointerp.unwrapping import clean

THOUGHTS = ("reasoning_content", "reasoning", "thinking")


def read_completion(body: str) -> Completion:
    """The first choice of a chat completion.

    Raises:
        Unavailable: when the body is not one.
    """
    text = body.lstrip("\ufeff \r\n\t")
    plain = _events(text) if text.startswith(("data:", "event:", ":")) else _parsed(text)
    if not isinstance(plain, Mapping) or not ({"choices", "error"} & plain.keys()):
        raise Unavailable("the reply is not a chat completion", answered=True)
    choice = _first(plain.get("choices"))
    message = choice.get("message") if choice else None
    if choice is None or not isinstance(message, Mapping):
        raise Unavailable("the reply has no choices", answered=True)
    usage = _mapping(plain.get("usage"))
    finish = choice.get("finish_reason")
    thoughts = [clean(message[name]) for name in THOUGHTS if isinstance(message.get(name), str)]
    content, thought_parts = _content(message.get("content"))
    return Completion(
        text=content or _called(message) or content,
        refusal=_text(message.get("refusal")),
        finish_reason=str(finish)[:40] if finish else None,
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        thoughts="".join([*thoughts, *thought_parts]) or None,
        thought_tokens=_count(_mapping(usage.get("completion_tokens_details")).get("reasoning_tokens")),
        tokens=read_tokens(choice.get("logprobs")),
    )


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Unavailable("unreadable reply: not JSON", answered=True) from None


def _events(text: str) -> dict[str, Any]:
    """The completion that results from the events of a stream."""
    message: dict[str, str] = {}
    whole: dict[str, Any] = {"choices": [{"message": message, "finish_reason": None}]}
    for event in _event_bodies(text):
        whole["usage"] = event.get("usage") or whole.get("usage")
        choice = _first(event.get("choices")) or {}
        if choice.get("finish_reason"):
            whole["choices"][0]["finish_reason"] = choice["finish_reason"]
        for name, value in _mapping(choice.get("delta")).items():
            if isinstance(value, str) and name in ("content", "refusal", *THOUGHTS):
                message[name] = message.get(name, "") + value
    return whole


def _event_bodies(text: str) -> Iterator[Mapping[str, Any]]:
    for line in text.splitlines():
        if line.startswith("data:") and "[DONE]" not in line:
            event = _parsed(line.removeprefix("data:"))
            if isinstance(event, Mapping):
                yield event


def _content(value: Any) -> tuple[str | None, list[str]]:
    """The text of a message's content, and the thoughts among its parts."""
    if isinstance(value, str):
        return clean(value), []
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        return None, []
    texts: list[str] = []
    thoughts: list[str] = []
    for part in value:
        kind = str(_mapping(part).get("type", "text"))
        said = part if isinstance(part, str) else _mapping(part).get("text", _mapping(part).get("content"))
        if isinstance(said, Mapping):
            said = said.get("value")
        if "think" in kind or "reason" in kind:
            thoughts.append(clean(said) if isinstance(said, str) else kind)
        elif isinstance(said, str):
            texts.append(clean(said))
    return "".join(texts) if texts else None, thoughts


def _called(message: Mapping[str, Any]) -> str | None:
    """The arguments of the only tool call, into which some servers convert a schema."""
    calls = message.get("tool_calls")
    call = _first(calls) if isinstance(calls, list) and len(calls) == 1 else None
    function = _mapping(call.get("function")) if call else _mapping(message.get("function_call"))
    arguments = function.get("arguments")
    return json.dumps(arguments) if isinstance(arguments, Mapping) else _text(arguments)


def _first(value: Any) -> Mapping[str, Any] | None:
    return value[0] if isinstance(value, list) and value and isinstance(value[0], Mapping) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str | None:
    return clean(value) if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    """A count of tokens, also if it is a text or a float."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if number == number // 1 and 0 <= number < 2**31 else None
