"""Observes the dictionaries of a pipeline on further activation sets."""

from collections.abc import Sequence

from flows.config_entries import ObserveConfig
from flows.evidence import dictionary_stages, mined_stages, suite_stages
from flows.members import Trained
from flows.walk import Walk
from tasks.activations.models.source import ModelConfig
from tasks.stages.observe_dictionary import ObserveUnit, observe_dictionary
from tasks.support.policies import LeftOut
from tasks.support.training_units import CachedHookpoint


def observe_stages(walk: Walk, trained: Sequence[Trained]) -> None:
    """Look at every dictionary on each further set of the pipeline; a set that exists is read.

    If the corpus grew, the first of them is the set of all its documents. It is mined and compared; what the
    dictionary was measured by, and its explanations, stay those of the set on which it was trained.
    """
    if (walk.n_generations() or 1) > 1:
        _observe_growth(walk, trained)
    for entry in walk.config.observe:
        for one in trained:
            with walk.run.branch(f"observe {one.outcome.facts['alias']} on {entry.tag()}"):
                for models, unit in _units(walk, one, entry):
                    observed = walk.do(observe_dictionary, unit)
                    dictionary_stages(walk, models, observed, one.evaluation)
                    suite_stages(walk, models, observed)


def _observe_growth(walk: Walk, trained: Sequence[Trained]) -> None:
    """Look at the dictionaries that were trained on the first documents of the corpus on all of them."""
    first = walk.corpus().facts["generations"][0]["corpus_id"]
    for one in trained:
        if one.outcome.facts["corpus_id"] == first:
            with walk.run.branch(f"observe {one.outcome.facts['alias']} on all documents"):
                for models, unit in _units(walk, one, ObserveConfig()):
                    observed = walk.do(observe_dictionary, unit)
                    mined_stages(walk, models, observed)


def _units(
    walk: Walk, one: Trained, entry: ObserveConfig
) -> list[tuple[tuple[ModelConfig, ...], ObserveUnit]]:
    """The dictionary on the set that an entry names; none if that is its home.

    Raises:
        LeftOut: when it cannot be looked at there; the branch says why and ends.
    """
    facts, config = one.outcome.facts, walk.config
    homes = one.models or tuple(model for model in config.models if model.id == entry.model)
    if not homes or (len(homes) > 1 and (entry.model or entry.hookpoint)):
        raise LeftOut("it reads two models, or one that the pipeline does not have")
    model = next((model for model in config.models if model.id == entry.model), homes[0])
    models = homes if len(homes) > 1 else (model,)
    by_id = {model.id: model for model in models}
    sides: list[tuple[CachedHookpoint, ...]] = []
    for side in ("reads", "writes"):
        points = []
        for point in facts[side]:
            of = by_id.get(point["model_id"], model)
            hookpoint = entry.hookpoint or point["hookpoint"]
            if hookpoint not in config.activations.for_model(of).hookpoints:
                raise LeftOut(f"{hookpoint} of {of.id} is not cached")
            points.append(CachedHookpoint(walk.cached(of, entry.corpus), hookpoint, of))
        sides.append(tuple(points))
    unit = ObserveUnit(one.outcome, *sides)
    is_home = unit.facts["activation_set_id"] == facts["activation_set_id"]
    several = entry.hookpoint is not None and (len(sides[0]) > 1 or facts["reads"] != facts["writes"])
    if several:
        raise LeftOut("it reads or writes several hookpoints, so none can stand for all")
    return [] if is_home else [(models, unit)]
