"""Explanations by a language model that reads contexts of a feature."""

import math
from collections.abc import Sequence
from typing import Literal, cast

import numpy as np
from pydantic import Field

from catalog.ids import digest
from tasks.autointerp.chat import ChatRequest, Message, Reply
from tasks.autointerp.explainer import EXPLAINERS, Draft, Explainer, ExplainerConfig, quotation
from tasks.autointerp.lexicon.vocabulary import Bools
from tasks.autointerp.prompting import MARK_SHARE, choose_marks, fence, fill, marked, text_digest
from tasks.autointerp.records import Example, FeatureEvidence, Rows
from tasks.autointerp.scorer import spread

PROMPT = "explain_contexts.v1"
MAX_TEXT = 300


class ContextsConfig(ExplainerConfig):
    """A language model sees contexts of every strength, marked, and some in which the feature is silent."""

    explainer: Literal["contexts"] = "contexts"
    endpoint: str
    """Name of the endpoint profile to ask."""
    n_firing: int = Field(default=16, ge=1)
    """Number of firing contexts to show, drawn over all strengths."""
    n_silent: int = Field(default=4, ge=0)
    """Number of silent contexts to show, those of its neighbours first."""
    max_tokens: int = Field(default=200, ge=16)
    """Longest reply in tokens, without thoughts."""


class ExplanationReply(Reply):
    """The reply to the prompt."""

    explanation: str = Field(min_length=1, max_length=MAX_TEXT)


@EXPLAINERS.register("contexts")
class ContextsExplainer(Explainer):
    """Asks for one short phrase; an invalid reply becomes a status and an error."""

    purpose = "asks a language model for one short phrase about marked contexts"
    needs_client = True
    config: ContextsConfig

    @classmethod
    def prompt_digest(cls, config: ContextsConfig) -> str:
        return digest([text_digest(PROMPT), ExplanationReply.model_json_schema(), MARK_SHARE])

    async def write(self, evidence: FeatureEvidence) -> Draft:
        assert self.client is not None
        bands = [evidence.rows("explain", (band,)) for band in evidence.firing_bands]
        firing = spread(bands, self.config.n_firing)
        silent = evidence.rows("explain", ("neighbour", "random"))[: self.config.n_silent]
        examples = [evidence.example(int(row)) for row in (*_strongest_first(evidence, firing), *silent)]
        scale = evidence.max_activation

        def messages(nonce: str) -> Sequence[Message]:
            return _messages(examples, scale, nonce)

        request = ChatRequest(
            "explain",
            str(evidence.feature_index),
            messages,
            ExplanationReply,
            self.config.max_tokens,
            check=lambda reply: _fault(reply, evidence),
        )
        reply = await self.client.ask(request)
        if reply.value is None:
            return Draft(None, reply.outcome, reply.error, calls=(reply.record,))
        text = " ".join(cast(ExplanationReply, reply.value).explanation.split())
        return Draft(text, calls=(reply.record,))


def _fault(reply: Reply, evidence: FeatureEvidence) -> str | None:
    """Why the reply is no label: it is blank, or a stretch of a context."""
    text = cast(ExplanationReply, reply).explanation
    return quotation(text, evidence) if text.strip() else "the explanation is blank"


def _strongest_first(evidence: FeatureEvidence, rows: Rows) -> Rows:
    top = evidence.windows.activation_WT[rows].max(axis=1, initial=0.0)
    return rows[np.argsort(-top, kind="stable")]


def _messages(examples: Sequence[Example], scale: float, nonce: str) -> Sequence[Message]:
    marks = choose_marks([example.text for example in examples])
    shown = []
    for example in examples:
        chosen = marked_tokens(example, scale)
        if not chosen.any():
            shown.append("Not active:\n" + fence("passage", example.text, nonce))
            continue
        strengths = ", ".join(
            f"{_named(token, is_special)} {max(1, math.ceil(10 * min(1.0, value / (scale or value))))}"
            for token, is_special, value, is_chosen in zip(
                example.tokens, example.is_special, example.activations, chosen.tolist(), strict=True
            )
            if is_chosen
        )
        text = f"{marked(example.tokens, chosen, marks)}\n\n{strengths}"
        shown.append("Active:\n" + fence("passage", text, nonce))
    return fill(PROMPT, nonce=nonce, open=marks[0], close=marks[1], items="\n\n".join(shown))


def _named(token: str, is_special: bool) -> str:
    """A token in quotes; for one without text the reason for that."""
    if is_special:
        return f"(special token {token!r})" if token else "(special token)"
    return repr(token) if token else "(rest of a character)"


def marked_tokens(example: Example, scale: float) -> Bools:
    """Tokens above `MARK_SHARE` of the feature's largest activation, else of the window's own."""
    activations = np.asarray(example.activations, np.float32)
    chosen: Bools = activations > MARK_SHARE * scale
    if not chosen.any():
        chosen = (activations > MARK_SHARE * activations.max(initial=0.0)) & (activations > 0)
    return chosen
