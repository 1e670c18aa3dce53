"""The role of an explainer: input evidence of one feature, output a text or the reason for none."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from catalog.schemas import SILENT_BANDS, ExplanationStatus
from tasks.autointerp.chat import CallRecord, ChatClient
from tasks.autointerp.choice import ChoiceConfig
from tasks.autointerp.records import FeatureEvidence
from tasks.autointerp.verbatim import repeated
from tasks.common.registry import Registry


class ExplainerConfig(ChoiceConfig):
    """Settings of every explainer."""

    explainer: str
    """Which explainer writes the explanations."""
    min_examples: int = Field(default=1, ge=1)
    """Features with fewer contexts to explain from get an error instead of a text."""

    def tag(self) -> str:
        """Its name and the settings that differ from the defaults; distinguishes two in one pipeline."""
        return self.told_apart("explainer")


@dataclass(frozen=True, slots=True)
class Draft:
    """An explanation attempt: ``text`` exists exactly if ``status`` is ``ok``."""

    text: str | None
    status: ExplanationStatus = "ok"
    error: str | None = None
    predicate: str | None = None
    token_shares: tuple[dict[str, Any], ...] | None = None
    calls: tuple[CallRecord, ...] = ()

    def columns(self) -> dict[str, Any]:
        """Its columns of ``explanations``."""
        return {
            "text": self.text,
            "predicate": self.predicate,
            "token_shares": None if self.token_shares is None else list(self.token_shares),
            "status": self.status,
            "error": self.error,
            "call_id": self.calls[-1].call_id if self.calls else None,
        }


class Explainer(ABC):
    """Explains features one at a time; a subclass registers itself in `EXPLAINERS`.

    ``Config`` is its configuration class; ``prompt_digest`` changes whenever the same evidence could
    lead to another question, and with it every explanation.
    """

    Config: ClassVar[type[ExplainerConfig]]
    purpose: ClassVar[str]
    """What it does, as the end of a sentence that begins with its name."""
    needs_client: ClassVar[bool] = False

    def __init__(self, config: Any, client: ChatClient | None = None) -> None:
        self.config = config
        self.client = client

    @classmethod
    @abstractmethod
    def prompt_digest(cls, config: Any) -> str:
        """SHA-256 of prompt template, schema and settings; of the grammar for a rule search."""

    @abstractmethod
    async def write(self, evidence: FeatureEvidence) -> Draft:
        """Explain a feature that has at least ``min_examples`` contexts."""

    async def explain(self, evidence: FeatureEvidence) -> Draft:
        """Explain a feature, or report that there are too few examples, or that the text repeats one."""
        n_examples = len(evidence.rows("explain", evidence.firing_bands))
        if n_examples < self.config.min_examples:
            needed = self.config.min_examples
            return Draft(None, "error", f"too few examples: {n_examples} to explain from, {needed} needed")
        return without_quotation(await self.write(evidence), evidence)


def without_quotation(draft: Draft, evidence: FeatureEvidence) -> Draft:
    """The draft, or ``invalid`` if its text is a stretch of a context of the ``explain`` half."""
    fault = quotation(draft.text, evidence) if draft.status == "ok" and draft.text else None
    return draft if fault is None else Draft(None, "invalid", fault, calls=draft.calls)


def quotation(text: str, evidence: FeatureEvidence) -> str | None:
    """Why a text is no label, if it repeats a context instead of saying what contexts share."""
    rows = evidence.rows("explain", (*evidence.firing_bands, *SILENT_BANDS))
    found = repeated(text, ("".join(evidence.windows.tokens(int(row))) for row in rows))
    return None if found is None else f"the text repeats a context instead of describing it: {found!r}"


EXPLAINERS: Registry[Explainer] = Registry("explainer", "tasks.autointerp.explainers")

AnyExplainerConfig = Annotated[ExplainerConfig, BeforeValidator(EXPLAINERS.resolve_config("explainer"))]
"""In a pipeline: a mapping with the field ``explainer`` becomes that explainer's configuration."""
