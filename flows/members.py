"""The dictionaries of a pipeline: those it trains, and those it takes from the catalogue.

Prefect is not imported here: a request is checked before its server starts.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from catalog.ledger import StageOutcome
from flows.config import PipelineConfig
from tasks.activations.models.source import ModelConfig
from tasks.dictionaries.config import DictionaryConfig, EvaluationConfig
from tasks.support.catalogued import find_dictionaries, stored_settings


class Trained(NamedTuple):
    """A dictionary of the pipeline, trained or taken from the catalogue, and its position in the pipeline."""

    models: tuple[ModelConfig, ...]
    hookpoints_key: str
    """Where it reads and writes; the position of its hookpoint if the pipeline iterates over hookpoints."""
    config: DictionaryConfig
    outcome: StageOutcome
    d_in: int | None = None
    """Numbers per token that it reads; None for a dictionary that is still to be trained."""

    @property
    def evaluation(self) -> EvaluationConfig:
        """How it is measured."""
        return self.config.evaluation

    @property
    def model_ids(self) -> tuple[str, ...]:
        return tuple(model.id for model in self.models)

    def is_sibling(self, other: "Trained") -> bool:
        """Whether the other reads the same hookpoints of the same models and differs only in its seeds."""
        seeds = {"seed": 0, "data_seed": 0}
        same_hookpoints = (self.model_ids, self.hookpoints_key) == (other.model_ids, other.hookpoints_key)
        return same_hookpoints and self.config.training() | seeds == other.config.training() | seeds


def used_dictionaries(config: PipelineConfig, root: Path) -> list[Trained]:
    """The dictionaries of the catalogue that a pipeline names, each once.

    Their models are those of the pipeline. A dictionary whose models the pipeline does not list has none, and
    is looked at only where ``observe`` says so.

    Raises:
        UserError: for a pattern that finds nothing.
    """
    by_id = {model.id: model for model in config.models}
    found: dict[str, Trained] = {}
    for entry in config.used:
        for outcome in find_dictionaries(root, [entry.use]):
            points = [*outcome.facts["reads"], *outcome.facts["writes"]]
            names = dict.fromkeys(str(point["model_id"]) for point in points)
            models = tuple(by_id[name] for name in names) if names.keys() <= by_id.keys() else ()
            settings, d_in = stored_settings(root, outcome)
            settings = settings.model_copy(update={"evaluation": entry.evaluation})
            one = Trained(models, _hookpoints_key(config, models, outcome.facts), settings, outcome, d_in)
            found.setdefault(str(outcome.facts["dictionary_id"]), one)
    return list(found.values())


def _hookpoints_key(config: PipelineConfig, models: Sequence[ModelConfig], facts: dict[str, Any]) -> str:
    """As for a dictionary of the pipeline: the position of its hookpoint if the pipeline caches it."""
    hookpoints_key = str(facts["place"])
    if len(models) != 1:
        return hookpoints_key
    hookpoints = config.activations.for_model(models[0]).hookpoints
    return str(hookpoints.index(hookpoints_key)) if hookpoints_key in hookpoints else hookpoints_key
