"""Replies of a judge with the probabilities of its answers, as endpoints give them."""

import json
import math
from collections.abc import Sequence
from typing import Any

from tests.fakes.openai_server import Raw

USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


def said(text: str, logprobs: Any = None) -> Raw:
    """A completion with a text and any ``logprobs``."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return Raw(200, {"model": "fake", "choices": [{**choice, "logprobs": logprobs}], "usage": USAGE})


def token(text: str, **logprobs: float) -> dict[str, Any]:
    """One token of a reply with its alternatives."""
    top = [{"token": other, "logprob": value} for other, value in logprobs.items()]
    return {"token": text, "logprob": logprobs.get(text, 0.0), "top_logprobs": top}


def ranked(values: Sequence[bool | int], margins: Sequence[float]) -> Raw:
    """The reply of a judge with log P(1) - log P(0) at each answer, one token each."""
    content = [token('{"answers": [')]
    for place, (value, margin) in enumerate(zip(values, margins, strict=True)):
        content += [token(", ")] if place else []
        logs = {"1": -math.log1p(math.exp(-margin)), "0": -math.log1p(math.exp(margin))}
        content.append(token(str(int(value)), **logs))
    content.append(token("]}"))
    return said(json.dumps({"answers": list(map(int, values))}), {"content": content})
