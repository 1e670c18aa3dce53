"""Shared code of scorers that ask a language model: items in small groups, one call per group."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar, Literal, cast

import numpy as np
from pydantic import Field, create_model

from catalog.ids import digest
from catalog.schemas import SILENT_BANDS
from tasks.autointerp.answer_watch import AnswerWatch
from tasks.autointerp.chat import CallRecord, ChatClient, ChatRequest, Message, Reply, Stopped
from tasks.autointerp.items import Items, Judged
from tasks.autointerp.logprobs import TOP_LOGPROBS, probability, yes_margins
from tasks.autointerp.measures import RANKING, YES_NO, Measure
from tasks.autointerp.metrics import UNANSWERED, Answers
from tasks.autointerp.prompting import MARK_SHARE, choose_marks, fence, fill, text_digest
from tasks.autointerp.records import FeatureEvidence
from tasks.autointerp.scorer import Explanation, Scorer, ScorerConfig, items_of, seeded

TOKENS_PER_ANSWER = 8
"""A truth value and its comma take 2 to 4 tokens; twice that leaves room for spaces."""
BASE_TOKENS = 64
"""The object around the answers, and a fence."""
KINDS = ("firing", *SILENT_BANDS)


class JudgeConfig(ScorerConfig):
    """A language model judges a sample of held-out contexts, a few at a time."""

    later_fields: ClassVar[frozenset[str]] = ScorerConfig.later_fields | {"logprobs"}
    routing_fields: ClassVar[frozenset[str]] = ScorerConfig.routing_fields | {"calibrate", "accept_chance"}

    endpoint: str
    """Name of the endpoint profile to ask."""
    n_firing: int = Field(default=20, ge=1)
    """Contexts in which the feature fires, drawn evenly over all strengths."""
    n_random: int = Field(default=10, ge=0)
    """Random contexts in which it is silent."""
    n_neighbour: int = Field(default=10, ge=0)
    """Silent contexts of its nearest features."""
    items_per_call: int = Field(default=5, ge=1, le=50)
    """Contexts shown in one question; the last question may have fewer."""
    logprobs: bool = True
    """Ask for the probabilities of yes and no, and score their order as AUROC, if the endpoint gives them."""
    calibrate: bool = True
    """Let the judge judge planted features first, once for each prompt, and refuse it if it is at chance."""
    accept_chance: bool = False
    """Use the judge even if it is at chance on planted features."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Longest reply in tokens, without thoughts; default: 64, and 8 for each context of the question."""


class JudgeReply(Reply):
    """The reply to the prompt: one number for each passage; `judge_reply` fixes how many."""

    answers: list[Literal[0, 1]]


@cache
def judge_reply(count: int) -> type[JudgeReply]:
    """The schema of a reply to ``count`` passages: not one answer more or less."""
    answers: Any = (list[Literal[0, 1]], Field(min_length=count, max_length=count))
    return create_model(f"JudgeReply{count}", __base__=JudgeReply, answers=answers)


def example_answers(count: int) -> list[int]:
    """The answers that the prompt shows as an example of the form."""
    return [i % 2 for i in range(count)]


def unmarked(evidence: FeatureEvidence, items: Items, chosen: slice) -> list[str]:
    """The texts of some of the items."""
    return ["".join(evidence.windows.tokens(int(row))) for row in items.row_I[chosen]]


class JudgeScorer(Scorer):
    """Shows explanation and contexts; an invalid reply leaves its group unanswered, never guessed."""

    needs_client = True
    measures: tuple[Measure, ...] = (YES_NO, RANKING)
    config: JudgeConfig
    prompt: ClassVar[str]
    """Name or text of its prompt."""
    reworded: ClassVar[str | None] = None
    """The same prompt in other words, if there is one: `calibration` compares the answers to both."""
    mostly_no: ClassVar[bool] = False
    """Whether a judge that reads the passages says no to nearly all of them."""

    def __init__(self, config: Any, client: ChatClient | None = None) -> None:
        super().__init__(config, client)
        self.wording = self.prompt
        self._watch = AnswerWatch(example_answers(self.config.items_per_call), mostly_no=self.mostly_no)

    @classmethod
    def prompt_digest(cls, config: Any) -> str:
        schema = judge_reply(config.items_per_call).model_json_schema()
        return digest([text_digest(cls.prompt), schema, MARK_SHARE])

    def can_judge(self, explanation: Explanation) -> bool:
        return explanation.claims

    def items(self, evidence: FeatureEvidence) -> Items:
        config = self.config
        limits: dict[str, int | None] = {
            "firing": config.n_firing,
            "random": config.n_random,
            "neighbour": config.n_neighbour,
        }
        return items_of(evidence, limits, seeded("items", config.seed, evidence.feature_index))

    @abstractmethod
    def passages(
        self, evidence: FeatureEvidence, items: Items, chosen: slice, marks: tuple[str, str]
    ) -> list[str]:
        """The texts to show for some of the items."""

    def note(self, judged: Judged) -> None:
        size = self.config.items_per_call
        for start in range(0, len(judged.answer_I), size):
            chosen = slice(start, start + size)
            if judged.margin_I is None or not np.ptp(judged.margin_I[chosen]) > 0:
                self._watch.add(judged.answer_I[chosen].tolist())

    def check(self) -> None:
        fault = self._watch.fault()
        if fault is not None:
            raise Stopped(
                f"the judge {self.judge_name} does not read the passages: in {self.config.scorer} {fault}; "
                "name an endpoint with another model in the scorer's field 'endpoint'"
            )

    async def judge(self, explanation: Explanation, evidence: FeatureEvidence, items: Items) -> Judged:
        assert self.client is not None
        answer_I: Answers = np.full(len(items), UNANSWERED, np.int8)
        margins: list[float | None] = [None] * len(items)
        call_ids: list[str | None] = [None] * len(items)
        calls: list[CallRecord] = []
        for start in range(0, len(items), self.config.items_per_call):
            chosen = slice(start, min(start + self.config.items_per_call, len(items)))
            reply = await self.client.ask(self._request(explanation, evidence, items, chosen))
            calls.append(reply.record)
            call_ids[chosen] = [reply.record.call_id] * (chosen.stop - chosen.start)
            if reply.value is not None:
                answers = cast(JudgeReply, reply.value).answers
                answer_I[chosen], margins[chosen] = answers, yes_margins(reply.tokens, answers)
        judged = Judged(answer_I, (), tuple(call_ids), tuple(calls))
        if all(margin is None for margin in margins):
            return judged
        margin_I = np.asarray([np.nan if margin is None else margin for margin in margins])
        probabilities = tuple(map(probability, margins))
        if self.threshold is not None:
            for item, value in enumerate(probabilities):
                answer_I[item] = answer_I[item] if value is None else value > self.threshold
        return replace(judged, probability_I=probabilities, margin_I=margin_I, by="logprob")

    def _request(
        self, explanation: Explanation, evidence: FeatureEvidence, items: Items, chosen: slice
    ) -> ChatRequest:
        count = chosen.stop - chosen.start
        texts = unmarked(evidence, items, chosen)
        marks = choose_marks([explanation.text, *texts])
        passages = self.passages(evidence, items, chosen, marks)

        def messages(nonce: str) -> Sequence[Message]:
            return fill(
                self.wording,
                nonce=nonce,
                open=marks[0],
                close=marks[1],
                count=count,
                sample=", ".join(map(str, example_answers(count))),
                explanation=explanation.text,
                items="\n\n".join(fence("passage", passage, nonce) for passage in passages),
            )

        unit = f"{evidence.feature_index}/{explanation.explanation_id}/{self.config.seed}/{chosen.start}"
        max_tokens = self.config.max_tokens or BASE_TOKENS + TOKENS_PER_ANSWER * count
        return ChatRequest(
            self.config.scorer,
            unit,
            messages,
            judge_reply(count),
            max_tokens,
            top_logprobs=TOP_LOGPROBS if self.config.logprobs else 0,
        )
