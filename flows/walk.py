"""A run on its way through the graph of a pipeline: its stages, its texts and its activations."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prefect import Task

from catalog.ledger import StageOutcome
from flows.config import PipelineConfig
from flows.graph import Stage
from flows.reports import NotChosen, Run, U
from tasks.activations.models.source import ModelConfig
from tasks.stages.cache_activations import cache_activations
from tasks.stages.describe_model import ModelUnit, describe_model
from tasks.stages.load_corpus import CorpusUnit, load_corpus
from tasks.support.cache_units import CacheUnit
from tasks.support.observed import Observed
from tasks.support.policies import StageContext


@dataclass(frozen=True)
class Walk:
    """A run on its way through the graph of a pipeline."""

    run: Run
    config: PipelineConfig
    """Says how to train, measure, mine, explain, score and match."""
    chosen: frozenset[Stage]
    """The stages of the walk."""
    read: dict[tuple[str, ...], StageOutcome] = field(default_factory=dict)
    """Corpora, models and caching runs that the walk came through, each once."""
    observed: list[Observed] = field(default_factory=list)
    """Dictionaries on sets, mined."""
    scored: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Facts of the dictionaries whose explanations were scored, by dictionary and set."""
    labels: dict[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    """Labels of corpora that the walk came through, their values, and the documents of each."""

    def do(self, stage: Task[[StageContext, U], StageOutcome], unit: U) -> StageOutcome:
        """Run a stage on a unit of work and record the outcome.

        Raises:
            NotChosen: for a stage that does not belong to the walk; it ends the branch without a word.
        """
        if not self.comes_to(stage):
            raise NotChosen(stage.name)
        return self.run.do(stage, unit)

    def comes_to(self, stage: Task[[StageContext, U], StageOutcome]) -> bool:
        """Whether a stage belongs to the walk."""
        return stage.name in self.chosen

    def may_compute(self, stage: Task[[StageContext, U], StageOutcome]) -> bool:
        """Whether the walk comes to a stage and computes it if it is missing."""
        self.run.heed_budget()
        return self.comes_to(stage) and self.run.context.may_compute(stage.name)

    def corpus(self, corpus_id: str | None = None) -> StageOutcome:
        """A corpus of the pipeline; by default the one on which dictionaries are trained."""
        by_id = {corpus.id: corpus.texts for corpus in self.config.all_corpora}
        name = corpus_id or next(iter(by_id))
        key = ("corpus", name)
        if key not in self.read:
            unit = CorpusUnit(by_id[name], self.config.activations.eval_share)
            self.read[key] = self.run.do(load_corpus, unit)
        return self.read[key]

    def n_generations(self, corpus_id: str | None = None) -> int | None:
        """How many times a corpus gained documents; None for one that does not grow."""
        generations = self.corpus(corpus_id).facts.get("generations")
        return None if generations is None else len(generations)

    def trained_on(self, model: ModelConfig) -> StageOutcome:
        """The activations on which dictionaries of a model are trained: those of the first documents."""
        return self._cached(model, None, None if self.n_generations() is None else 1)

    def cached(self, model: ModelConfig, corpus_id: str | None = None) -> StageOutcome:
        """The activations of a model on a corpus, at every hookpoint that the pipeline caches of it."""
        return self._cached(model, corpus_id, self.n_generations(corpus_id))

    def _cached(self, model: ModelConfig, corpus_id: str | None, n_generations: int | None) -> StageOutcome:
        corpus, described = self.corpus(corpus_id), self.described(model)
        key = ("cached", model.id, corpus.fingerprint, str(n_generations))
        if key not in self.read:
            unit = CacheUnit(model, self.config.activations, corpus, described, n_generations)
            self.read[key] = self.do(cache_activations, unit)
        return self.read[key]

    def described(self, model: ModelConfig) -> StageOutcome:
        """A model of the pipeline in the catalogue."""
        key = ("model", model.id)
        if key not in self.read:
            self.read[key] = self.do(describe_model, ModelUnit(model))
        return self.read[key]
