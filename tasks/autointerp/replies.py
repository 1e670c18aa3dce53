"""Replies of an endpoint, and their validation."""

import json
from dataclasses import dataclass

from pydantic import ValidationError

from catalog.schemas import CallOutcome
from tasks.autointerp.chat import ChatRequest, Reply
from tasks.autointerp.logprobs import ReplyToken
from tasks.autointerp.unwrapping import clean, objects_in, without_thoughts

CUT_OFF = ("length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded")
FILTERED = ("content_filter", "safety", "recitation", "blocklist", "prohibited_content", "guardrail")
Judged = tuple[CallOutcome, Reply | None, str | None]
"""Outcome, valid reply, and the reason if there is none."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A reply that is not yet validated."""

    text: str | None
    refusal: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    thoughts: str | None = None
    """The thoughts of the model, if they were separate from the text."""
    thought_tokens: int | None = None
    tokens: tuple[ReplyToken, ...] = ()
    """The tokens of the reply with their alternatives, if the endpoint gave them."""

    @property
    def is_cut_off(self) -> bool:
        """Whether the reply ended at a limit of tokens."""
        return (self.finish_reason or "").lower() in CUT_OFF

    @property
    def ends_in_thoughts(self) -> bool:
        """Whether it was cut off before the model had finished thinking."""
        said = without_thoughts(self.text or "")
        thought = bool(self.thoughts or self.thought_tokens or said.is_thinking)
        return self.is_cut_off and thought and not said.text.strip()


class Unavailable(Exception):
    """No usable answer this time; ``answered`` says whether it may have cost money."""

    def __init__(self, reason: str, *, wait_seconds: float | None = None, answered: bool = False) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds
        self.answered = answered


class Rejected(Exception):
    """This question will not be answered, however often it is asked."""

    def __init__(self, reason: str, *, answered: bool = False) -> None:
        super().__init__(reason)
        self.answered = answered


def judge_reply(request: ChatRequest, completion: Completion, question: str = "") -> Judged:
    """The outcome of a completion; never trust that the endpoint followed the schema.

    Args:
        request: The question.
        completion: The reply.
        question: The user's side of the sent text; a reply that only repeats it is not an answer.
    """
    finish = (completion.finish_reason or "").lower()
    if completion.refusal or finish == "refusal":
        return "refused", None, "the model refused"
    if finish.startswith(FILTERED):
        return "filtered", None, "a content filter cut the reply"
    text = completion.text or ""
    value, problem = _find(request, text, question)
    if completion.thoughts and not text.strip() and not completion.is_cut_off:
        # servers put the whole reply among the thoughts where their parser expects thoughts first
        value, _ = _find(request, _last_object(completion.thoughts), question)
        n_chars = len(completion.thoughts)
        problem = f"the content is empty; the separate reasoning ({n_chars} characters) holds no reply"
    if value is not None:
        return "ok", value, None
    if completion.is_cut_off:
        return "truncated", None, _cut_off(completion)
    return "invalid", None, problem


def _find(request: ChatRequest, text: str, question: str) -> tuple[Reply | None, str]:
    """The only object in a text that is a valid reply, or the reason why there is none."""
    if not text.strip():
        return None, "the reply is empty"
    said = without_thoughts(text)
    if said.is_thinking:
        return None, "the reply holds thoughts and no answer"
    found = objects_in(said.text)
    is_bare = all(words == said.text.strip() for _, words in found)
    valid: dict[str, Reply] = {}
    problem = "the reply holds no JSON object"
    for plain, words in found:
        if not is_bare and words in question:
            problem = "the reply repeats the question and holds no JSON object of its own"
            continue
        try:
            value = request.reply.model_validate_json(clean(json.dumps(plain, ensure_ascii=False)))
        except (ValidationError, ValueError) as error:
            problem = _first_problem(error)
            continue
        fault = request.check(value) if request.check else None
        if fault is None:
            valid[value.model_dump_json()] = value
        else:
            problem = fault
    if len(valid) > 1:
        return None, f"the reply holds {len(valid)} different answers"
    return next(iter(valid.values()), None), problem


def _first_problem(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])


def _last_object(thoughts: str) -> str:
    """The object at the end of thoughts, or nothing if they end otherwise."""
    found = objects_in(thoughts)
    return found[-1][1] if found and thoughts.rstrip(" \n`").endswith(found[-1][1]) else ""


def _cut_off(completion: Completion) -> str:
    n_tokens = completion.completion_tokens
    size = f" after {n_tokens} tokens" if n_tokens else ""
    if completion.ends_in_thoughts:
        return (
            f"the reply was cut off{size} while the model was thinking: raise max_tokens of the explainer or "
            "scorer, or reasoning_tokens of the endpoint's profile"
        )
    return f"the reply was cut off{size}: raise max_tokens of the explainer or scorer"
