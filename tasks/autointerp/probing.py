"""Tests whether an endpoint enforces a reply schema that no model satisfies by chance."""

from collections.abc import Sequence
from typing import Literal

from tasks.autointerp.chat import CallRecord, ChatClient, ChatRequest, Message, Reply


class ProbeReply(Reply):
    """Never shown to the model, only sent as ``response_format``."""

    tessellated_quince: Literal["vermilion-7419"]


def _question(nonce: str) -> Sequence[Message]:
    return [Message("user", "What is the capital of France? Answer in one word.")]


async def probe(client: ChatClient) -> tuple[bool | None, CallRecord]:
    """True if the reply meets a schema that the prompt does not mention, None if there was no reply."""
    reply = await client.ask(ChatRequest("probe", "schema", _question, ProbeReply, 64))
    if reply.outcome == "error":
        return None, reply.record
    return reply.outcome == "ok", reply.record
