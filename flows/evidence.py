"""What follows once a dictionary and a set of activations are there: measures, examples, labels, scores."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from catalog.ledger import StageOutcome
from flows.comparing import comparison_stages
from flows.walk import Walk
from tasks.activations.models.source import ModelConfig
from tasks.autointerp.judging import JudgeConfig
from tasks.dictionaries.config import EvaluationConfig
from tasks.stages.calibrate_judge import JudgeUnit, calibrate_judge
from tasks.stages.evaluate_dictionary import EvaluateUnit, evaluate_dictionary
from tasks.stages.evaluate_suite import evaluate_suite
from tasks.stages.explain_features import ExplainUnit, explain_features
from tasks.stages.measure_floors import FloorsUnit, measure_floors
from tasks.stages.mine_examples import MineUnit, mine_examples
from tasks.stages.score_explanations import score_explanations
from tasks.support.observed import Observed
from tasks.support.policies import is_complete
from tasks.support.score_units import ScoreUnit, refuse_at_chance
from tasks.support.stored import evidence_ids, evidence_subject
from tasks.support.suite_units import SuiteUnit


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
    mined = mined_stages(walk, models, outcome)
    for position, explainer in enumerate(walk.config.explain):
        if explainer.takes(outcome.facts):
            _label_stages(walk, outcome, ExplainUnit(explainer, mined, position))


def mined_stages(walk: Walk, models: tuple[ModelConfig, ...], outcome: StageOutcome) -> StageOutcome:
    """Mine and compare documents; the outcome of mining."""
    mined = walk.do(mine_examples, MineUnit(walk.config.mining, models, outcome))
    comparison_stages(walk, Observed(outcome, mined))
    return mined


def _label_stages(walk: Walk, outcome: StageOutcome, unit: ExplainUnit) -> None:
    """Explain and score; if the endpoint asks to wait, both are done at the end of the run."""
    with walk.run.branch(f"explain {unit.label}"):
        explained = walk.do(explain_features, unit)
        if walk.run.parking.add(unit.label, explained, partial(_label_stages, walk, outcome, unit)):
            return
        for position, scorer in enumerate(walk.config.score):
            if scorer.judges(outcome.facts, unit.config.explainer):
                _score_stage(walk, ScoreUnit(scorer, explained, position))


def _score_stage(walk: Walk, unit: ScoreUnit) -> None:
    """Calibrate the judge, if there is one, and score; a judge at chance is refused."""
    with walk.run.branch(f"score {unit.label}"):
        if isinstance(unit.config, JudgeConfig) and unit.config.calibrate:
            judge = JudgeUnit(unit.config, unit.explained.facts["corpus_id"])
            calibrated = walk.do(calibrate_judge, judge)
            waits = f"{judge.label}, {unit.label}"
            is_later = walk.run.parking.add(waits, calibrated, partial(_score_stage, walk, unit))
            if is_later or not is_complete(calibrated):
                return
            if not unit.config.accept_chance:
                refuse_at_chance(judge.label, calibrated)
            unit = replace(unit, calibrated=calibrated)
        scored = walk.do(score_explanations, unit)
        _measure_later(walk, unit.explained.facts)
        walk.run.parking.add(unit.label, scored, partial(_score_stage, walk, unit))


def _measure_later(walk: Walk, facts: Mapping[str, Any]) -> None:
    """Measure the floors of the scores at the end of the run: they are scores of other dictionaries."""
    if not walk.scored:
        walk.run.at_end.append(partial(_floor_stages, walk))
    walk.scored.setdefault(evidence_subject(**evidence_ids(facts)), facts)


def _floor_stages(walk: Walk) -> None:
    for subject, facts in walk.scored.items():
        with walk.run.branch(f"measure the floors of {subject}"):
            walk.do(measure_floors, FloorsUnit(facts))


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
