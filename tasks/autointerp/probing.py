"""Tests whether an endpoint enforces a schema that no model meets by chance, and gives probabilities."""

from collections.abc import Sequence
from typing import Any, Literal

from tasks.autointerp.chat import PROBE, ChatClient, ChatRequest, Message, Reply
from tasks.autointerp.logprobs import TOP_LOGPROBS


class ProbeReply(Reply):
    """Never shown to the model, only sent as ``response_format``."""

    tessellated_quince: Literal["vermilion-7419"]


def _question(nonce: str) -> Sequence[Message]:
    return [Message("user", "What is the capital of France? Answer in one word.")]


async def probe(client: ChatClient) -> dict[str, Any]:
    """Facts about the endpoint, and ``calls``; None where there was no reply.

    ``enforces_schema``: the reply meets a schema that the prompt does not mention. ``gives_logprobs``: it
    came with the probabilities of its tokens; what is refused or ignored is learnt (`shapes`).
    """
    request = ChatRequest(PROBE, "schema", _question, ProbeReply, 64, top_logprobs=TOP_LOGPROBS)
    reply = await client.ask(request)
    known = reply.outcome != "error"
    return {
        "enforces_schema": reply.outcome == "ok" if known else None,
        "gives_logprobs": client.gives_logprobs if known else None,
        "calls": [reply.record.to_plain()],
    }
