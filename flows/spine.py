"""The graph of a pipeline: corpus → activations → dictionaries → evidence → labels → matches.

This is the only place that says which stage reads what. A stage that is already committed is found, so a
rerun walks the graph and computes only what is missing or forced.
"""

from collections.abc import Mapping, Sequence

from catalog.errors import UserError
from catalog.ledger import StageOutcome
from flows.comparing import check_labels, set_comparison_stages
from flows.config import PipelineConfig
from flows.evidence import dictionary_stages, suite_stages
from flows.graph import Stage, with_needs
from flows.match_forecast import tell_forecast
from flows.members import Trained, used_dictionaries
from flows.observing import observe_stages
from flows.pairs import pipeline_units
from flows.preflight import check_before
from flows.reports import Run
from flows.walk import Walk
from tasks.activations.models.source import ModelConfig
from tasks.dictionaries.config import DictionaryConfig
from tasks.stages.match_features import match_features
from tasks.stages.train_dictionary import train_dictionary
from tasks.stages.train_together import train_together
from tasks.support.training_units import CachedHookpoint, TrainGroup, TrainUnit


def run_stages(run: Run, config: PipelineConfig, stages: Sequence[Stage] = (), *, yes: bool = False) -> None:
    """Walk the graph of a pipeline; ``stages`` limits it to those named and what they need.

    Raises:
        UserError: before any computation, for the first model whose files cannot do what is requested, for
            a dictionary to start from that is not there, and for more pairs to match than a person means who
            did not say ``yes``.
    """
    run.limit(config.budget)
    walk = Walk(run, config, with_needs(stages))
    check_before(config, run.context.root, walk.chosen, yes=yes)
    used = used_dictionaries(config, run.context.root)
    walk.corpus()
    check_labels(walk)
    cached: dict[str, StageOutcome] = {}
    trained: list[Trained] = []
    for model in config.models:
        with run.branch(f"model {model.id}"):
            walk.described(model)
            if config.trains_on(model):
                cached[model.id] = walk.trained_on(model)
                trained += _dictionaries_of(walk, model, cached[model.id])
    trained += _dictionaries_of_two(walk, cached)
    trained += _used_at_home(walk, used)
    for one in trained:
        siblings = [other.outcome for other in trained if other is not one and one.is_sibling(other)]
        suite_stages(walk, one.models, one.outcome, siblings)
    observe_stages(walk, trained)
    set_comparison_stages(walk)
    _match_stages(walk, trained)


def _used_at_home(walk: Walk, used: Sequence[Trained]) -> list[Trained]:
    """Dictionaries of the catalogue, with what the pipeline wants on the sets that they were trained on."""
    for one in used:
        walk.run.add(str(one.outcome.facts["alias"]), one.outcome)
        with walk.run.branch(str(one.outcome.facts["alias"])):
            if one.models:
                dictionary_stages(walk, one.models, one.outcome, one.evaluation)
    return list(used)


def _dictionaries_of(walk: Walk, model: ModelConfig, cached: StageOutcome) -> list[Trained]:
    """Dictionaries of one model: at every hookpoint, and those that name their own hookpoints once."""
    config = walk.config
    hookpoints = config.activations.for_model(model).hookpoints
    units: list[tuple[TrainUnit, str]] = []
    for dictionary in config.trained:
        if not dictionary.trains_on(model.id):
            continue
        for key, reads in _read_by_key(dictionary, hookpoints).items():
            read = tuple(CachedHookpoint(cached, name, model) for name in reads)
            written = tuple(CachedHookpoint(cached, name, model) for name in dictionary.writes or ())
            unit = TrainUnit(dictionary, read, written or None, config.training)
            units.append((unit.started(walk.run.context.root), key))
    group = TrainGroup(model.id, tuple(unit for unit, _ in units))
    trains = group.is_wanted and walk.may_compute(train_dictionary)
    together = train_together(walk.run.context, group) if trains else {}
    return [
        trained for unit, key in units for trained in _train_stages(walk, unit, key, together.get(unit.label))
    ]


def _read_by_key(dictionary: DictionaryConfig, hookpoints: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """What a dictionary reads at each hookpoint of a model that caches these hookpoints."""
    if dictionary.reads is None:
        return {str(position): (name,) for position, name in enumerate(hookpoints)}
    if dictionary.models is not None or not set(dictionary.hookpoints) <= set(hookpoints):
        return {}
    if dictionary.hookpoints == dictionary.reads[:1]:
        return {str(hookpoints.index(dictionary.reads[0])): dictionary.reads}
    return {dictionary.hookpoints_name: dictionary.reads}


def _dictionaries_of_two(walk: Walk, cached: Mapping[str, StageOutcome]) -> list[Trained]:
    """Dictionaries that read two models together, each with all of its hookpoints."""
    by_id = {model.id: model for model in walk.config.models}
    trained: list[Trained] = []
    for dictionary in walk.config.trained:
        if dictionary.models is None or not cached.keys() >= set(dictionary.models):
            continue
        reads = tuple(
            CachedHookpoint(cached[model], hookpoint, by_id[model])
            for model in dictionary.models
            for hookpoint in dictionary.reads or ()
        )
        unit = TrainUnit(dictionary, reads, None, walk.config.training).started(walk.run.context.root)
        trained += _train_stages(walk, unit, dictionary.hookpoints_name)
    return trained


def _train_stages(
    walk: Walk, unit: TrainUnit, key: str, ended: StageOutcome | UserError | None = None
) -> list[Trained]:
    """A dictionary and all that follows; ``ended`` says how its training ended if it was tried before."""
    trained: list[Trained] = []
    with walk.run.branch(unit.label):
        if isinstance(ended, UserError):
            raise ended
        outcome = walk.run.add(unit.label, ended) if ended else walk.do(train_dictionary, unit)
        trained.append(Trained(unit.models, key, unit.config, outcome))
        dictionary_stages(walk, unit.models, outcome, unit.config.evaluation)
    return trained


def _match_stages(walk: Walk, trained: Sequence[Trained]) -> None:
    """Run each matcher on the pairs that the pipeline chooses and that it compares, after a forecast."""
    if not walk.comes_to(match_features) or not walk.config.match:
        return
    with walk.run.branch("match"):
        units = pipeline_units(walk.config.match, trained, walk.run.context.root)
        tell_forecast(walk.run, walk.config.match, units)
        for unit in units:
            with walk.run.branch(f"match {unit.label}"):
                walk.do(match_features, unit)
