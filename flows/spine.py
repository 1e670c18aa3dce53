"""The graph of a pipeline: corpus → activations → dictionaries → evidence → labels → matches.

This is the only place that says which stage reads what. A stage that is already committed is found, so a
rerun walks the graph and computes only what is missing or forced.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from prefect import Task

from catalog.errors import UserError
from catalog.ledger import StageOutcome
from flows.comparing import check_labels, comparison_stages
from flows.config import PipelineConfig
from flows.graph import Stage, with_needs
from flows.match_forecast import tell_forecast
from flows.pair_limit import check_pairs
from flows.pairs import pipeline_units
from flows.preflight import check_models
from flows.reports import NotChosen, Run, U
from flows.starts import check_starts
from tasks.activations.models.source import ModelConfig
from tasks.dictionaries.config import DictionaryConfig, EvaluationConfig
from tasks.stages.cache_activations import CacheUnit, cache_activations
from tasks.stages.describe_model import ModelUnit, describe_model
from tasks.stages.evaluate_dictionary import EvaluateUnit, evaluate_dictionary
from tasks.stages.evaluate_suite import SuiteUnit, evaluate_suite
from tasks.stages.explain_features import ExplainUnit, explain_features
from tasks.stages.load_corpus import CorpusUnit, load_corpus
from tasks.stages.match_features import match_features
from tasks.stages.mine_examples import MineUnit, mine_examples
from tasks.stages.score_explanations import ScoreUnit, score_explanations
from tasks.stages.train_dictionary import train_dictionary
from tasks.stages.train_together import train_together
from tasks.support.observed import Observed
from tasks.support.policies import StageContext
from tasks.support.training_units import Site, TrainGroup, TrainUnit


@dataclass(frozen=True)
class Walk:
    """A run on its way through the graph of a pipeline."""

    run: Run
    config: PipelineConfig
    """Says how to train, measure, mine, explain, score and match."""
    chosen: frozenset[Stage]
    """The stages of the walk."""

    def do(self, stage: Task[[StageContext, U], StageOutcome], unit: U) -> StageOutcome:
        """Run a stage on a unit of work and record the outcome.

        Raises:
            NotChosen: for a stage that does not belong to the walk; it ends the branch without a word.
        """
        if stage.name not in self.chosen:
            raise NotChosen(stage.name)
        return self.run.do(stage, unit)

    def may_compute(self, stage: Stage) -> bool:
        """Whether the walk comes to a stage and computes it if it is missing."""
        return stage in self.chosen and self.run.context.may_compute(stage)


class Trained(NamedTuple):
    """A dictionary of the pipeline and its position in the pipeline."""

    models: tuple[ModelConfig, ...]
    place: str
    """Where it reads and writes; the position of its hookpoint if the pipeline iterates over hookpoints."""
    config: DictionaryConfig
    outcome: StageOutcome

    @property
    def model_ids(self) -> tuple[str, ...]:
        return tuple(model.id for model in self.models)

    def is_sibling(self, other: "Trained") -> bool:
        """Whether the other reads the same hookpoints of the same models and differs only in its seeds."""
        seeds = {"seed": 0, "data_seed": 0}
        same_place = (self.model_ids, self.place) == (other.model_ids, other.place)
        return same_place and self.config.training() | seeds == other.config.training() | seeds


def run_stages(run: Run, config: PipelineConfig, stages: Sequence[Stage] = (), *, yes: bool = False) -> None:
    """Walk the graph of a pipeline; ``stages`` limits it to those named and what they need.

    Raises:
        UserError: before any computation, for the first model whose files cannot do what is requested, for
            a dictionary to start from that is not there, and for more pairs to match than a person means who
            did not say ``yes``.
    """
    walk = Walk(run, config, with_needs(stages))
    if "describe_model" in walk.chosen:
        check_models(config, run.context.root)
    if "train_dictionary" in walk.chosen:
        check_starts(config, run.context.root)
    if "match_features" in walk.chosen:
        check_pairs(config, run.context.root, yes=yes)
    corpus = run.do(load_corpus, CorpusUnit(config.corpus, config.activations.eval_share))
    check_labels(config, run.context.root, corpus.facts["corpus_id"])
    cached: dict[str, StageOutcome] = {}
    trained: list[Trained] = []
    for model in config.models:
        with run.branch(f"model {model.id}"):
            described = walk.do(describe_model, ModelUnit(model))
            cached[model.id] = walk.do(
                cache_activations, CacheUnit(model, config.activations, corpus, described)
            )
            trained += _dictionaries_of(walk, model, cached[model.id])
    trained += _dictionaries_of_two(walk, cached)
    for one in trained:
        siblings = [other.outcome for other in trained if other is not one and one.is_sibling(other)]
        suite_stages(walk, one.models, one.outcome, siblings)
    _match_stages(walk, trained)


def _dictionaries_of(walk: Walk, model: ModelConfig, cached: StageOutcome) -> list[Trained]:
    """Dictionaries of one model: at every hookpoint, and those that name their own hookpoints once."""
    config = walk.config
    hookpoints = config.activations.for_model(model).hookpoints
    units: list[tuple[TrainUnit, str]] = []
    for dictionary in config.dictionaries:
        for place, reads in _places(dictionary, hookpoints).items():
            read = tuple(Site(cached, name, model) for name in reads)
            written = tuple(Site(cached, name, model) for name in dictionary.writes or ())
            unit = TrainUnit(dictionary, read, written or None, config.training)
            units.append((unit.started(walk.run.context.root), place))
    group = TrainGroup(model.id, tuple(unit for unit, _ in units))
    trains = group.is_wanted and walk.may_compute("train_dictionary")
    together = train_together(walk.run.context, group) if trains else {}
    return [
        trained
        for unit, place in units
        for trained in _train_stages(walk, unit, place, together.get(unit.label))
    ]


def _places(dictionary: DictionaryConfig, hookpoints: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """What a dictionary reads at each hookpoint of a model that caches these hookpoints."""
    if dictionary.reads is None:
        return {str(position): (name,) for position, name in enumerate(hookpoints)}
    if dictionary.models is not None or not set(dictionary.hookpoints) <= set(hookpoints):
        return {}
    if dictionary.hookpoints == dictionary.reads[:1]:
        return {str(hookpoints.index(dictionary.reads[0])): dictionary.reads}
    return {dictionary.place: dictionary.reads}


def _dictionaries_of_two(walk: Walk, cached: Mapping[str, StageOutcome]) -> list[Trained]:
    """Dictionaries that read two models together, each with all of its hookpoints."""
    by_id = {model.id: model for model in walk.config.models}
    trained: list[Trained] = []
    for dictionary in walk.config.dictionaries:
        if dictionary.models is None or not cached.keys() >= set(dictionary.models):
            continue
        reads = tuple(
            Site(cached[model], hookpoint, by_id[model])
            for model in dictionary.models
            for hookpoint in dictionary.reads or ()
        )
        unit = TrainUnit(dictionary, reads, None, walk.config.training).started(walk.run.context.root)
        trained += _train_stages(walk, unit, dictionary.place)
    return trained


def _train_stages(
    walk: Walk, unit: TrainUnit, place: str, ended: StageOutcome | UserError | None = None
) -> list[Trained]:
    """A dictionary and all that follows; ``ended`` says how its training ended if it was tried before."""
    trained: list[Trained] = []
    with walk.run.branch(unit.label):
        if isinstance(ended, UserError):
            raise ended
        outcome = walk.run.add(unit.label, ended) if ended else walk.do(train_dictionary, unit)
        trained.append(Trained(unit.models, place, unit.config, outcome))
        dictionary_stages(walk, unit.models, outcome, unit.config.evaluation)
    return trained


def dictionary_stages(
    walk: Walk, models: tuple[ModelConfig, ...], outcome: StageOutcome, evaluation: EvaluationConfig
) -> None:
    """All stages that follow once a dictionary is in the catalogue, trained or imported.

    Args:
        walk: Collects the outcomes, and says how to mine, explain and score.
        models: The models of the hookpoints that the dictionary reads and writes.
        outcome: The outcome of the stage that put the dictionary into the catalogue.
        evaluation: How to measure it.
    """
    measured = EvaluateUnit(evaluation, models, outcome)
    with walk.run.branch(f"evaluate {measured.label}"):
        walk.do(evaluate_dictionary, measured)
    mined = walk.do(mine_examples, MineUnit(walk.config.mining, models, outcome))
    comparison_stages(walk, Observed(outcome, mined))
    for position, explainer in enumerate(walk.config.explain):
        _label_stages(walk, ExplainUnit(explainer, mined, position))


def _label_stages(walk: Walk, unit: ExplainUnit) -> None:
    """Explain and score; if the endpoint asks to wait, both are done at the end of the run."""
    with walk.run.branch(f"explain {unit.label}"):
        explained = walk.do(explain_features, unit)
        if not walk.run.parking.add(unit.label, explained, partial(_label_stages, walk, unit)):
            for position, scorer in enumerate(walk.config.score):
                _score_stage(walk, ScoreUnit(scorer, explained, position))


def _score_stage(walk: Walk, unit: ScoreUnit) -> None:
    with walk.run.branch(f"score {unit.label}"):
        scored = walk.do(score_explanations, unit)
        walk.run.parking.add(unit.label, scored, partial(_score_stage, walk, unit))


def suite_stages(
    walk: Walk,
    models: tuple[ModelConfig, ...],
    outcome: StageOutcome,
    siblings: Sequence[StageOutcome] = (),
) -> None:
    """Every suite of the pipeline on one dictionary; siblings are those that differ in the seed alone."""
    for suite in walk.config.evaluate:
        unit = SuiteUnit(suite, models, outcome, tuple(siblings))
        with walk.run.branch(f"evaluate {unit.label}"):
            walk.do(evaluate_suite, unit)


def _match_stages(walk: Walk, trained: Sequence[Trained]) -> None:
    """Run each matcher on the pairs that the pipeline chooses and that it compares, after a forecast."""
    if "match_features" not in walk.chosen or not walk.config.match:
        return
    with walk.run.branch("match"):
        units = pipeline_units(walk.config.match, trained, walk.run.context.root)
        tell_forecast(walk.run, walk.config.match, units)
        for unit in units:
            with walk.run.branch(f"match {unit.label}"):
                walk.do(match_features, unit)
