"""What comes back over the wire, and what it is worth."""

from dataclasses import dataclass

from pydantic import ValidationError

from catalog.schemas import CallOutcome
from tasks.autointerp.chat import ChatRequest, Reply


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back, not yet validated."""

    text: str | None
    refusal: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None


class Unavailable(Exception):
    """No usable answer this time; ``answered`` says whether it may have been charged for."""

    def __init__(self, reason: str, *, wait_seconds: float | None = None, answered: bool = False) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds
        self.answered = answered


class Rejected(Exception):
    """This question will not be answered, however often it is asked."""

    def __init__(self, reason: str, *, answered: bool = False) -> None:
        super().__init__(reason)
        self.answered = answered


def judge_reply(request: ChatRequest, completion: Completion) -> tuple[CallOutcome, Reply | None, str | None]:
    """Outcome, valid reply and reason of a completion: never trust that the endpoint kept to the schema."""
    if completion.refusal:
        return "refused", None, "the model refused"
    if completion.finish_reason == "content_filter":
        return "filtered", None, "a content filter cut the reply"
    if completion.finish_reason == "length":
        return "truncated", None, f"the reply was longer than {request.max_tokens} tokens"
    if not completion.text:
        return "invalid", None, "the reply is empty"
    try:
        value = request.reply.model_validate_json(completion.text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return "invalid", None, f"{where}: {first['msg']}" if where else str(first["msg"])
    problem = request.check(value) if request.check else None
    return ("invalid", None, problem) if problem else ("ok", value, None)
