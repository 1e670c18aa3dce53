"""The probabilities of the tokens of a reply, and what they say about yes or no.

Tokenisers cut a list of answers in many ways: " 1", "[1", "1,", "1, 0". The tokens are joined to the text of
the reply, the answers are found in it, and each is read from its token if that holds no other answer. An
alternative of the token counts for the digit that it holds; several with the same digit are added up.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.autointerp.unwrapping import clean

TOP_LOGPROBS = 5
"""Alternatives to ask for: all endpoints that give any give as many."""
_LISTS = re.compile(r"\[([^\[\]]*)\]")
_LEAST = 1e-9
"""Probabilities come rounded: nothing is known about smaller ones."""
_AROUND = " \t\r\n\u0120\u2581[]{}(),:;\"'`"


@dataclass(frozen=True, slots=True)
class ReplyToken:
    """One token of a reply, and the log-probability (nats) of each alternative if it holds a digit."""

    text: str
    alternatives: tuple[tuple[str, float], ...] = ()

    def to_plain(self) -> list[Any]:
        """The token as JSON values."""
        return [self.text, dict(self.alternatives)]


def tokens_from_plain(plain: Iterable[Any]) -> tuple[ReplyToken, ...]:
    """The tokens of a stored reply."""
    return tuple(ReplyToken(text, tuple(alternatives.items())) for text, alternatives in plain)


def read_tokens(logprobs: Any) -> tuple[ReplyToken, ...]:
    """The tokens of ``choices[0].logprobs`` of a completion; none if it has another form."""
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(content, list) or not all(isinstance(token, Mapping) for token in content):
        return ()
    return tuple(_read(token) for token in content)


def _read(token: Mapping[str, Any]) -> ReplyToken:
    text = clean(str(token.get("token", "")))
    top = token.get("top_logprobs")
    if not isinstance(top, list) or not any(c.isdecimal() for c in text):
        return ReplyToken(text)
    found: dict[str, float] = {}
    for one in top:
        value = one.get("logprob") if isinstance(one, Mapping) else None
        if isinstance(value, int | float) and math.isfinite(value) and value < _LEAST:
            found[clean(str(one.get("token", "")))] = min(0.0, float(value))
    return ReplyToken(text, tuple(found.items()))


def yes_margins(tokens: Sequence[ReplyToken], answers: Sequence[int]) -> list[float | None]:
    """log P(1) - log P(0) at each answer of a reply that was read as ``answers``; None where it is unknown.

    A digit that is not among the alternatives is at most as likely as the least likely of them, and as all
    that is missing from 1; it counts with that.
    """
    unknown: list[float | None] = [None] * len(answers)
    starts = _starts(tokens)
    text = "".join(token.text for token in tokens)
    said = [str(answer) for answer in answers]
    lists = [found for found in _LISTS.finditer(text) if re.findall(r"\d+", found[1]) == said]
    if not lists:
        return unknown
    places = [lists[-1].start(1) + digit.start() for digit in re.finditer(r"\d", lists[-1][1])]
    return [_margin(tokens, starts, place) for place in places]


def _margin(tokens: Sequence[ReplyToken], starts: Sequence[int], place: int) -> float | None:
    token = _token_at(tokens, starts, place)
    if token.text.strip(_AROUND) not in ("0", "1"):
        return None
    no, yes = _total(token, "0"), _total(token, "1")
    if no is None and yes is None:
        return None
    values = [value for _, value in token.alternatives]
    rest = math.log(max(_LEAST, 1 - math.fsum(map(math.exp, values))))
    most = min([*values, rest])
    return (most if yes is None else yes) - (most if no is None else no)


def _total(token: ReplyToken, digit: str) -> float | None:
    """log of the summed probability of the alternatives that hold only this digit."""
    values = [value for text, value in token.alternatives if text.strip(_AROUND) == digit]
    if not values:
        return None
    most = max(values)
    return most + math.log(sum(math.exp(value - most) for value in values))


def probability(margin: float | None) -> float | None:
    """P(1) / (P(0) + P(1)) of a margin."""
    return None if margin is None else 0.5 * (1 + math.tanh(margin / 2))


def expected_values(
    tokens: Sequence[ReplyToken], values: Mapping[str, int], largest: int
) -> dict[str, float | None]:
    """Expected value under the tokens' probabilities at each entry ``"name": value`` of a JSON reply.

    The sum of v p(v) over the alternatives that are whole numbers from 0 to ``largest``, divided by that of
    p(v): what goes to other tokens says nothing. A number that is cut into two tokens counts as stated
    where its first token is the one that was chosen. None where the tokens are unknown.
    """
    starts = _starts(tokens)
    text = "".join(token.text for token in tokens)
    found: dict[str, float | None] = dict.fromkeys(values)
    for entry in re.finditer(r"\"(\w+)\"\s*:\s*(\d+)", text):
        name, said = entry[1], entry[2]
        if name in values and int(said) == values[name]:
            found[name] = _expected(_token_at(tokens, starts, entry.start(2)), int(said), largest)
    return found


def _expected(token: ReplyToken, said: int, largest: int) -> float | None:
    own = token.text.strip(_AROUND)
    if not own.isdecimal() or not str(said).startswith(own):
        return None
    total = mass = 0.0
    for text, value in token.alternatives:
        digits = text.strip(_AROUND)
        if digits.isdecimal() and int(digits) <= largest:
            share = math.exp(value)
            total += share * (said if digits == own else int(digits))
            mass += share
    return total / mass if mass > 0 else None


def _starts(tokens: Sequence[ReplyToken]) -> list[int]:
    """Where each token begins in the joined text."""
    starts, length = [], 0
    for token in tokens:
        starts.append(length)
        length += len(token.text)
    return starts


def _token_at(tokens: Sequence[ReplyToken], starts: Sequence[int], place: int) -> ReplyToken:
    return tokens[bisect_right(starts, place) - 1]
