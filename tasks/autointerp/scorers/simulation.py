"""Simulation: a language model predicts the activation on every token from the explanation alone."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
from pydantic import Field, create_model

from catalog.ids import digest
from tasks.autointerp.chat import CallRecord, ChatReply, ChatRequest, Message, Reply
from tasks.autointerp.items import Items, Judged, Trace
from tasks.autointerp.judging import BASE_TOKENS
from tasks.autointerp.logprobs import expected_values
from tasks.autointerp.metrics import UNANSWERED, Values
from tasks.autointerp.prompting import fence, fill, text_digest
from tasks.autointerp.records import FeatureEvidence
from tasks.autointerp.scorer import SCORERS, Explanation, Scorer, ScorerConfig, items_of, seeded
from tasks.autointerp.tracking import TRACKING

PROMPT = "simulation.v1"
LARGEST = 10
TOP_LOGPROBS = 10
"""Alternatives to ask for: nearly all of the eleven numbers."""
TOKENS_PER_VALUE = 12
"""A name, its quotes, a colon, a number and a comma take 5 to 7 tokens."""
Level = Literal[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]


class SimulationConfig(ScorerConfig):
    """A language model predicts activations on a sample of held-out contexts, one in each question."""

    scorer: Literal["simulation"] = "simulation"
    endpoint: str
    """Name of the endpoint profile to ask."""
    n_firing: int = Field(default=5, ge=1)
    """Contexts in which the feature fires, drawn evenly over all strengths."""
    n_random: int = Field(default=5, ge=0)
    """Random contexts in which it is silent."""
    n_neighbour: int = Field(default=0, ge=0)
    """Silent contexts of its nearest features."""
    logprobs: bool = True
    """Use the expected value of each number, not the stated one, if the endpoint gives probabilities."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Longest reply in tokens, without thoughts; default: 64, and 12 for each token of the context."""


@cache
def simulation_reply(count: int) -> type[Reply]:
    """The schema of a reply to a context of ``count`` tokens: one number for each."""
    fields: dict[str, Any] = {f"t{i + 1}": (Level, ...) for i in range(count)}
    return create_model(f"SimulationReply{count}", __base__=Reply, **fields)


@SCORERS.register("simulation")
class SimulationScorer(Scorer):
    """Correlation of predicted with true activations; tests when and how strongly a feature fires."""

    purpose = "asks a model for the activation on every token, and correlates it with the true one"
    needs_client = True
    measures = (TRACKING,)
    config: SimulationConfig

    @classmethod
    def prompt_digest(cls, config: SimulationConfig) -> str:
        return digest([text_digest(PROMPT), simulation_reply(2).model_json_schema()])

    def can_judge(self, explanation: Explanation) -> bool:
        return True

    def items(self, evidence: FeatureEvidence) -> Items:
        limits: dict[str, int | None] = {
            "firing": self.config.n_firing,
            "random": self.config.n_random,
            "neighbour": self.config.n_neighbour,
        }
        return items_of(evidence, limits, seeded("items", self.config.seed, evidence.feature_index))

    async def judge(self, explanation: Explanation, evidence: FeatureEvidence, items: Items) -> Judged:
        assert self.client is not None
        traces: list[Trace | None] = []
        margins = np.full(len(items), np.nan)
        calls: list[CallRecord] = []
        has_probabilities = False
        for place, row in enumerate(items.row_I):
            reply = await self.client.ask(self._request(explanation, evidence, int(row)))
            calls.append(reply.record)
            simulated = _simulated(reply)
            if simulated is None:
                traces.append(None)
                continue
            true = np.asarray(evidence.windows.activations(int(row)), np.float64)
            traces.append(Trace(true, simulated))
            margins[place] = simulated.max()
            has_probabilities |= bool(reply.tokens)
        return Judged(
            np.full(len(items), UNANSWERED, np.int8),
            call_id_I=tuple(call.call_id for call in calls),
            calls=tuple(calls),
            margin_I=margins,
            by="logprob" if has_probabilities else "answer",
            traces=tuple(traces),
        )

    def _request(self, explanation: Explanation, evidence: FeatureEvidence, row: int) -> ChatRequest:
        tokens = evidence.windows.tokens(row)
        lines = "\n".join(f"t{i + 1}: {json.dumps(t, ensure_ascii=False)}" for i, t in enumerate(tokens))

        def messages(nonce: str) -> Sequence[Message]:
            return fill(
                PROMPT,
                nonce=nonce,
                count=len(tokens),
                explanation=explanation.text,
                passage=fence("passage", lines, nonce),
            )

        unit = f"{evidence.feature_index}/{explanation.explanation_id}/{self.config.seed}/{row}"
        limit = self.config.max_tokens or BASE_TOKENS + TOKENS_PER_VALUE * len(tokens)
        reply = simulation_reply(len(tokens))
        top = TOP_LOGPROBS if self.config.logprobs else 0
        return ChatRequest(self.config.scorer, unit, messages, reply, limit, top_logprobs=top)


def _simulated(reply: ChatReply) -> Values | None:
    """The predicted activation of each token: the expected number where it is known, else the stated one."""
    if reply.value is None:
        return None
    stated: dict[str, int] = reply.value.model_dump()
    expected = expected_values(reply.tokens, stated, LARGEST)
    values = [stated[name] if expected[name] is None else expected[name] for name in stated]
    return np.asarray(values, np.float64)
