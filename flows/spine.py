"""The graph of a pipeline: corpus → activations → dictionaries → evidence → labels → matches.

This is the only place that says which stage reads what. A stage that is already committed is found, so a
rerun walks the graph and computes only what is missing or forced.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from catalog.errors import UserError
from catalog.ledger import StageOutcome
from flows.config import PipelineConfig, Stage
from flows.preflight import check_models
from flows.reports import Run
from tasks.activations.models.source import ModelConfig
from tasks.autointerp.scorer import ScorerConfig
from tasks.dictionaries.config import DictionaryConfig, EvaluationConfig
from tasks.stages.cache_activations import CacheUnit, cache_activations
from tasks.stages.describe_model import ModelUnit, describe_model
from tasks.stages.evaluate_dictionary import EvaluateUnit, evaluate_dictionary
from tasks.stages.evaluate_suite import SuiteUnit, evaluate_suite
from tasks.stages.explain_features import ExplainUnit, explain_features
from tasks.stages.load_corpus import CorpusUnit, load_corpus
from tasks.stages.match_features import MatchUnit, is_comparable, match_features
from tasks.stages.mine_examples import MineUnit, mine_examples
from tasks.stages.score_explanations import ScoreUnit, score_explanations
from tasks.stages.train_dictionary import train_dictionary
from tasks.stages.train_together import train_together
from tasks.support.training_units import Site, TrainGroup, TrainUnit

NEEDS: dict[Stage, tuple[Stage, ...]] = {
    "load_corpus": (),
    "describe_model": (),
    "cache_activations": ("load_corpus", "describe_model"),
    "train_dictionary": ("cache_activations",),
    "evaluate_dictionary": ("train_dictionary",),
    "evaluate_suite": ("train_dictionary",),
    "mine_examples": ("train_dictionary",),
    "explain_features": ("mine_examples",),
    "score_explanations": ("explain_features",),
    "match_features": ("train_dictionary",),
}


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


def with_needs(stages: Sequence[Stage]) -> frozenset[Stage]:
    """The stages and all stages that they read; all stages if none is named."""
    chosen: set[Stage] = set()
    waiting = list(stages or NEEDS)
    while waiting:
        stage = waiting.pop()
        if stage not in chosen:
            chosen.add(stage)
            waiting.extend(NEEDS[stage])
    return frozenset(chosen)


def run_stages(run: Run, config: PipelineConfig, stages: Sequence[Stage] = ()) -> None:
    """Walk the graph of a pipeline; ``stages`` limits it to those named and what they need.

    Raises:
        UserError: before any computation, for the first model whose files cannot do what is requested.
    """
    chosen = with_needs(stages)
    if "describe_model" in chosen:
        check_models(config)
    unit = CorpusUnit(config.corpus, config.activations.eval_share)
    corpus = run.add(unit.label, load_corpus(run.context, unit))
    cached: dict[str, StageOutcome] = {}
    trained: list[Trained] = []
    for model in config.models:
        with run.branch(f"model {model.id}"):
            if "cache_activations" in chosen:
                cached[model.id] = _cache_stages(run, config, corpus, model)
                if "train_dictionary" in chosen:
                    trained += _dictionaries_of(run, config, chosen, model, cached[model.id])
    if "train_dictionary" in chosen:
        trained += _dictionaries_of_two(run, config, chosen, cached)
    if "evaluate_suite" in chosen:
        for one in trained:
            siblings = [other.outcome for other in trained if other is not one and one.is_sibling(other)]
            suite_stages(run, config, one.models, one.outcome, siblings)
    if "match_features" in chosen:
        _match_stages(run, config, trained)


def _cache_stages(run: Run, config: PipelineConfig, corpus: StageOutcome, model: ModelConfig) -> StageOutcome:
    described = run.add(model.id, describe_model(run.context, ModelUnit(model)))
    unit = CacheUnit(model, config.activations, corpus, described)
    return run.add(unit.label, cache_activations(run.context, unit))


def _dictionaries_of(
    run: Run, config: PipelineConfig, chosen: frozenset[Stage], model: ModelConfig, cached: StageOutcome
) -> list[Trained]:
    """Dictionaries of one model: at every hookpoint, and those that name their own hookpoints once."""
    hookpoints = config.activations.for_model(model).hookpoints
    units: list[tuple[TrainUnit, str]] = []
    for dictionary in config.dictionaries:
        for place, reads in _places(dictionary, hookpoints).items():
            read = tuple(Site(cached, name, model) for name in reads)
            written = tuple(Site(cached, name, model) for name in dictionary.writes or ())
            units.append((TrainUnit(dictionary, read, written or None, config.training), place))
    group = TrainGroup(model.id, tuple(unit for unit, _ in units))
    trains = group.is_wanted and run.context.may_compute("train_dictionary")
    together = train_together(run.context, group) if trains else {}
    return [
        trained
        for unit, place in units
        for trained in _train_stages(run, config, chosen, unit, place, together.get(unit.label))
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


def _dictionaries_of_two(
    run: Run, config: PipelineConfig, chosen: frozenset[Stage], cached: Mapping[str, StageOutcome]
) -> list[Trained]:
    """Dictionaries that read two models together, each with all of its hookpoints."""
    by_id = {model.id: model for model in config.models}
    trained: list[Trained] = []
    for dictionary in config.dictionaries:
        if dictionary.models is None or not cached.keys() >= set(dictionary.models):
            continue
        reads = tuple(
            Site(cached[model], hookpoint, by_id[model])
            for model in dictionary.models
            for hookpoint in dictionary.reads or ()
        )
        unit = TrainUnit(dictionary, reads, None, config.training)
        trained += _train_stages(run, config, chosen, unit, dictionary.place)
    return trained


def _train_stages(
    run: Run,
    config: PipelineConfig,
    chosen: frozenset[Stage],
    unit: TrainUnit,
    place: str,
    ended: StageOutcome | UserError | None = None,
) -> list[Trained]:
    """A dictionary and all that follows; ``ended`` says how its training ended if it was tried before."""
    trained: list[Trained] = []
    with run.branch(unit.label):
        if isinstance(ended, UserError):
            raise ended
        outcome = run.add(unit.label, ended or train_dictionary(run.context, unit))
        trained.append(Trained(unit.models, place, unit.config, outcome))
        dictionary_stages(run, config, chosen, unit.models, outcome, unit.config.evaluation)
    return trained


def dictionary_stages(
    run: Run,
    config: PipelineConfig,
    chosen: frozenset[Stage],
    models: tuple[ModelConfig, ...],
    outcome: StageOutcome,
    evaluation: EvaluationConfig,
) -> None:
    """All stages that follow once a dictionary is in the catalogue, trained or imported.

    Args:
        run: Collects the outcomes.
        config: Says how to mine, explain and score.
        chosen: The stages to run.
        models: The models of the hookpoints that the dictionary reads and writes.
        outcome: The outcome of the stage that put the dictionary into the catalogue.
        evaluation: How to measure it.
    """
    if "evaluate_dictionary" in chosen:
        _evaluate_stage(run, EvaluateUnit(evaluation, models, outcome))
    if "mine_examples" in chosen:
        _evidence_stages(run, config, chosen, MineUnit(config.mining, models, outcome))


def _evaluate_stage(run: Run, unit: EvaluateUnit) -> None:
    with run.branch(f"evaluate {unit.label}"):
        run.add(unit.label, evaluate_dictionary(run.context, unit))


def _evidence_stages(run: Run, config: PipelineConfig, chosen: frozenset[Stage], unit: MineUnit) -> None:
    mined = run.add(unit.label, mine_examples(run.context, unit))
    for place, explainer in enumerate(config.explain if "explain_features" in chosen else ()):
        scorers = config.score if "score_explanations" in chosen else ()
        _label_stages(run, scorers, ExplainUnit(explainer, mined, place))


def _label_stages(run: Run, scorers: Sequence[ScorerConfig], unit: ExplainUnit) -> None:
    """Explain and score; if the endpoint asks to wait, do both at the end of the run."""
    with run.branch(f"explain {unit.label}"):
        explained = run.add(unit.label, explain_features(run.context, unit))
        if not run.parking.add(unit.label, explained, partial(_label_stages, run, scorers, unit)):
            for place, scorer in enumerate(scorers):
                _score_stage(run, ScoreUnit(scorer, explained, place))


def _score_stage(run: Run, unit: ScoreUnit) -> None:
    with run.branch(f"score {unit.label}"):
        scored = run.add(unit.label, score_explanations(run.context, unit))
        run.parking.add(unit.label, scored, partial(_score_stage, run, unit))


def suite_stages(
    run: Run,
    config: PipelineConfig,
    models: tuple[ModelConfig, ...],
    outcome: StageOutcome,
    siblings: Sequence[StageOutcome] = (),
) -> None:
    """Run every suite of the pipeline on one dictionary; siblings differ from it only in the seed."""
    for suite in config.evaluate:
        unit = SuiteUnit(suite, models, outcome, tuple(siblings))
        with run.branch(f"evaluate {unit.label}"):
            run.add(unit.label, evaluate_suite(run.context, unit))


def _match_stages(run: Run, config: PipelineConfig, trained: Sequence[Trained]) -> None:
    """Run each matcher on the pairs it compares: the same kind of dictionary at the same hookpoint of two
    models, and different dictionaries of one space. Controls are not matched."""
    found = [one for one in trained if not one.config.is_control]
    for matcher in config.match:
        for i, first in enumerate(found):
            for second in found[i + 1 :]:
                same_kind = first.config.name() == second.config.name()
                same_models = first.model_ids == second.model_ids
                if first.place != second.place or not (same_models or same_kind):
                    continue
                unit = MatchUnit(matcher, first.outcome, second.outcome)
                if is_comparable(unit):
                    with run.branch(f"match {unit.label}"):
                        run.add(unit.label, match_features(run.context, unit))
