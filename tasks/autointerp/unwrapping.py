"""Extracts the JSON object of a reply from the text that models put around it.

Models think aloud first (``<think>``, ``[THINK]``, channels of gpt-oss, or only a closing tag if the template
opened it), fence their answer, explain it, or write it as a call. One object that fits the schema is the
answer. Two different ones are no answer, and an object that is already in the question is a quotation.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_TAGS = ("think", "thinking", "thought", "thoughts", "reasoning", "reflection", "seed:think")
_THOUGHTS = (
    *((f"<{tag}>", f"</{tag}>") for tag in _TAGS),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("◁think▷", "◁/think▷"),
    ("<unused94>", "<unused95>"),
    ("<|channel>thought", "<channel|>"),
)
_CHANNEL = "<|channel|>"
_FINAL = re.compile(r"<\|channel\|>\s*final\b.*?<\|message\|>", re.S)
_PLAIN_CHANNELS = re.compile(r"analysis.*?assistant\s*final", re.S)
_START = re.compile(r"[{\[]")
_DECODER = json.JSONDecoder(strict=False)
_CALLS = ("arguments", "parameters", "input")
MOST_STARTS = 2_000


def clean(text: str) -> str:
    """Text that can be stored: lone halves of surrogate pairs, which are not characters, are replaced."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@dataclass(frozen=True, slots=True)
class Said:
    """A reply without its thoughts; ``is_thinking`` if it ends in the middle of them."""

    text: str
    is_thinking: bool = False


def without_thoughts(text: str) -> Said:
    """The text after the thoughts at the start of a reply."""
    if _CHANNEL in text:
        finals = list(_FINAL.finditer(text))
        return Said(text[finals[-1].end() :]) if finals else Said("", is_thinking=True)
    plain = _PLAIN_CHANNELS.match(text.lstrip())
    if plain:
        return Said(text.lstrip()[plain.end() :])
    rest = text.lstrip()
    while opened := next((pair for pair in _THOUGHTS if rest.lower().startswith(pair[0].lower())), None):
        _, closed, after = _parted(rest[len(opened[0]) :], opened[1])
        if not closed:
            return Said("", is_thinking=True)
        rest = after.lstrip()
    if rest[:1] not in ("{", "[", "`"):
        for _, closing in _THOUGHTS:  # the template opened them: only the end is in the reply
            _, closed, after = _parted(rest, closing)
            if closed:
                return Said(after.lstrip())
    return Said(rest)


def objects_in(text: str) -> list[tuple[dict[str, Any], str]]:
    """Every outermost JSON object of a text with its source text; calls are unwrapped."""
    found: list[tuple[dict[str, Any], str]] = []
    for value, words in _values(text):
        found += [(inner, words) for inner in _meant(value)]
    return found


def _values(text: str) -> Iterator[tuple[Any, str]]:
    stripped = text.strip()
    if stripped.startswith('"'):  # JSON within a JSON string
        try:
            inner = json.loads(stripped, strict=False)
        except (ValueError, RecursionError):
            inner = None
        if isinstance(inner, str):
            yield from _values(inner)
            return
    start = n_starts = 0
    while (found := _START.search(text, start)) and n_starts < MOST_STARTS:
        n_starts += 1
        try:
            value, end = _DECODER.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            start = found.start() + 1
            continue
        yield value, text[found.start() : end]
        start = end


def _meant(value: Any) -> Iterator[dict[str, Any]]:
    """The values that a value may hold: itself, the one in a list, the arguments of a call, one inside."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        return
    yield value
    inner = next((value[name] for name in _CALLS if "name" in value and name in value), None)
    if inner is None and len(value) == 1:
        (inner,) = value.values()
    if isinstance(inner, str) and inner.lstrip().startswith("{"):
        try:
            inner = json.loads(inner, strict=False)
        except (ValueError, RecursionError):
            return
    if isinstance(inner, dict):
        yield inner


def _parted(text: str, mark: str) -> tuple[str, bool, str]:
    """Before, whether found, and after the first ``mark`` in any case."""
    place = text.lower().find(mark.lower())
    return (text, False, "") if place < 0 else (text[:place], True, text[place + len(mark) :])
