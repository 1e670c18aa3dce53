"""The graph of a pipeline: corpus → activations → dictionaries → evidence → labels → matches.

The one place that says which stage reads what. A stage that is committed already is found, so a rerun
walks the graph and computes only what is missing or forced.
"""

from collections.abc import Sequence
from typing import NamedTuple

from catalog.ledger import StageOutcome
from flows.config import PipelineConfig, Stage
from flows.reports import Run
from tasks.activations.model_source import ModelConfig
from tasks.autointerp.scorer import ScorerConfig
from tasks.cache_activations import CacheUnit, cache_activations
from tasks.describe_model import ModelUnit, describe_model
from tasks.evaluate_dictionary import EvaluateUnit, evaluate_dictionary
from tasks.explain_features import ExplainUnit, explain_features
from tasks.load_corpus import CorpusUnit, load_corpus
from tasks.match_features import MatchUnit, is_comparable, match_features
from tasks.mine_examples import MineUnit, mine_examples
from tasks.score_explanations import ScoreUnit, score_explanations
from tasks.train_dictionary import TrainUnit, train_dictionary

NEEDS: dict[Stage, tuple[Stage, ...]] = {
    "load_corpus": (),
    "describe_model": (),
    "cache_activations": ("load_corpus", "describe_model"),
    "train_dictionary": ("cache_activations",),
    "evaluate_dictionary": ("train_dictionary",),
    "mine_examples": ("train_dictionary",),
    "explain_features": ("mine_examples",),
    "score_explanations": ("explain_features",),
    "match_features": ("train_dictionary",),
}


class Trained(NamedTuple):
    """A dictionary of the pipeline and the place it has in it."""

    model_id: str
    hookpoint_position: int
    dictionary_name: str
    outcome: StageOutcome


def with_needs(stages: Sequence[Stage]) -> frozenset[Stage]:
    """The stages and everything they read; all stages when none is named."""
    chosen: set[Stage] = set()
    waiting = list(stages or NEEDS)
    while waiting:
        stage = waiting.pop()
        if stage not in chosen:
            chosen.add(stage)
            waiting.extend(NEEDS[stage])
    return frozenset(chosen)


def run_stages(run: Run, config: PipelineConfig, stages: Sequence[Stage] = ()) -> None:
    """Walk the graph of a pipeline; ``stages`` limits it to those named and what they need."""
    chosen = with_needs(stages)
    unit = CorpusUnit(config.corpus, config.activations.eval_share)
    corpus = run.add(unit.label, load_corpus(run.context, unit))
    trained: list[Trained] = []
    for model in config.models:
        with run.branch(f"model {model.id}"):
            if "cache_activations" in chosen:
                trained += _model_stages(run, config, chosen, corpus, model)
    if "match_features" in chosen:
        _match_stages(run, config, trained)


def _model_stages(
    run: Run, config: PipelineConfig, chosen: frozenset[Stage], corpus: StageOutcome, model: ModelConfig
) -> list[Trained]:
    described = run.add(model.id, describe_model(run.context, ModelUnit(model)))
    cache_unit = CacheUnit(model, config.activations, corpus, described)
    cached = run.add(cache_unit.label, cache_activations(run.context, cache_unit))
    trained: list[Trained] = []
    if "train_dictionary" not in chosen:
        return trained
    for position, hookpoint in enumerate(config.activations.for_model(model).hookpoints):
        for dictionary in config.dictionaries:
            train_unit = TrainUnit(dictionary, cached, hookpoint, model)
            with run.branch(train_unit.label):
                outcome = run.add(train_unit.label, train_dictionary(run.context, train_unit))
                trained.append(Trained(model.id, position, dictionary.name(), outcome))
                if "evaluate_dictionary" in chosen:
                    _evaluate_stage(run, EvaluateUnit(dictionary.evaluation, model, outcome))
                if "mine_examples" in chosen:
                    _evidence_stages(run, config, chosen, MineUnit(config.mining, model, outcome))
    return trained


def _evaluate_stage(run: Run, unit: EvaluateUnit) -> None:
    with run.branch(f"evaluate {unit.label}"):
        run.add(unit.label, evaluate_dictionary(run.context, unit))


def _evidence_stages(run: Run, config: PipelineConfig, chosen: frozenset[Stage], unit: MineUnit) -> None:
    mined = run.add(unit.label, mine_examples(run.context, unit))
    for explainer in config.explain if "explain_features" in chosen else ():
        explain_unit = ExplainUnit(explainer, mined)
        with run.branch(f"explain {explain_unit.label}"):
            explained = run.add(explain_unit.label, explain_features(run.context, explain_unit))
            if "score_explanations" in chosen:
                _score_stages(run, config.score, explained)


def _score_stages(run: Run, scorers: Sequence[ScorerConfig], explained: StageOutcome) -> None:
    for scorer in scorers:
        unit = ScoreUnit(scorer, explained)
        with run.branch(f"score {unit.label}"):
            run.add(unit.label, score_explanations(run.context, unit))


def _match_stages(run: Run, config: PipelineConfig, trained: Sequence[Trained]) -> None:
    """Each matcher on the pairs it compares: the same kind of dictionary at the same place of two models,
    and different dictionaries of one space."""
    for matcher in config.match:
        for i, first in enumerate(trained):
            for second in trained[i + 1 :]:
                same_kind = first.dictionary_name == second.dictionary_name
                same_place = first.hookpoint_position == second.hookpoint_position
                same_space = first.model_id == second.model_id and same_place
                if not (same_space or (same_kind and same_place)):
                    continue
                unit = MatchUnit(matcher, first.outcome, second.outcome)
                if is_comparable(unit):
                    with run.branch(f"match {unit.label}"):
                        run.add(unit.label, match_features(run.context, unit))
