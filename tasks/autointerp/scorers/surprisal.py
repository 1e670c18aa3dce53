"""Surprisal: does the explanation make the contexts in which the feature fires more likely?"""

from functools import cached_property
from typing import Any, Literal

from catalog.ids import digest
from tasks.autointerp.local_models import CausalModel, check_causal, files_digest
from tasks.autointerp.measuring import MeasuringConfig, MeasuringScorer
from tasks.autointerp.metrics import Values
from tasks.autointerp.scorer import SCORERS

GENERIC = "The following is a list of various unrelated passages:\n\n"
ABOUT = "The following is a list of passages about {explanation}:\n\n"


class SurprisalConfig(MeasuringConfig):
    """A causal language model reads each context after a prompt with the explanation, and without it."""

    scorer: Literal["surprisal"] = "surprisal"


@SCORERS.register("surprisal")
class SurprisalScorer(MeasuringScorer):
    """CE(context | generic prompt) - CE(context | explanation), in nats per token."""

    purpose = "measures how much an explanation lowers a language model's loss on a context"
    config: SurprisalConfig

    @classmethod
    def prompt_digest(cls, config: SurprisalConfig) -> str:
        return digest({"prompts": [GENERIC, ABOUT], "files": files_digest(config.model)})

    @classmethod
    def check_config(cls, config: SurprisalConfig) -> None:
        check_causal(config.model)

    @cached_property
    def _model(self) -> CausalModel:
        return CausalModel(self.config.model)

    def prepared(self, texts: list[str]) -> Any:
        return self._model.losses(GENERIC, texts)

    def margins(self, explanation: str, texts: list[str], prepared: Any) -> Values:
        drops: Values = prepared - self._model.losses(ABOUT.format(explanation=explanation), texts)
        return drops
