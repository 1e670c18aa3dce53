"""Stage: train dictionaries on activation sets, in a child process under a watchdog."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from catalog.errors import UserError
from catalog.ids import canonical_json
from catalog.ledger import Claim, StageOutcome
from tasks.common.progress import ProgressListener
from tasks.support.aliases import point_alias
from tasks.support.policies import (
    Results,
    StageContext,
    UnitKey,
    claim_undone,
    progress_listener,
    report_outcome,
    run_unit,
    stage_task,
    undisturbed,
)
from tasks.support.reporting import raise_if_server_is_lost
from tasks.support.stored import open_sites
from tasks.support.training_units import (
    STAGE,
    VERSION,
    TrainGroup,
    TrainUnit,
    facts_of,
    options_for,
    request_for,
    results_of,
)

if TYPE_CHECKING:
    from tasks.dictionaries.sites import SiteActivations
    from tasks.training.child import TrainingRequest


@stage_task(STAGE)
def train_dictionary(context: StageContext, unit: TrainUnit) -> StageOutcome:
    """Train to the end, resuming at the last checkpoint; facts: dictionary_id, weights_uri and its inputs.

    A found dictionary gets its alias back if the alias referred to another one meanwhile.
    """

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.training.supervisor import train_many_in_child

        sites = open_sites(context.root, facts_of(unit, claim.fingerprint), unit.models, context.device)
        request, options = request_for(context, unit, claim), options_for(context, unit)
        ((_, trained),) = train_many_in_child([request], listener=listener, options=options)
        if isinstance(trained, UserError):
            raise trained
        return results_of(unit, claim, trained, sites)

    outcome = run_unit(context, unit.key, compute)
    if not outcome.recomputed:
        point_alias(context.root, unit.alias, str(outcome.facts["dictionary_id"]))
    return outcome


@stage_task("train_together")
def train_together(context: StageContext, unit: TrainGroup) -> Mapping[str, StageOutcome | UserError]:
    """Train in one process what is neither done nor in training by another run; commit each as it ends.

    Every dictionary is a separate unit of work, with the same fingerprint as when it is trained alone.

    Returns:
        By label how each training ended: committed, or refused for good. Missing ones were done before,
        belong to another run, or died with the process; `train_dictionary` handles them.
    """
    from tasks.training.supervisor import TrainingFailed, train_many_in_child

    raise_if_server_is_lost()
    ended: dict[str, StageOutcome | UserError] = {}
    key = UnitKey("train_together", VERSION, unit.label, {})
    with undisturbed(), ExitStack() as stack:
        claims = claim_undone(context, [each.key for each in unit.units], stack)
        if not claims:
            return ended
        listener = stack.enter_context(progress_listener(key, claims.values()))
        waiting: list[_Waiting] = []
        opened: dict[str, SiteActivations] = {}
        for number, claim in claims.items():
            each = unit.units[number]
            with _ending(each, claim, ended):
                facts = facts_of(each, claim.fingerprint)
                place = canonical_json([facts["reads"], facts["writes"]])
                if place not in opened:
                    opened[place] = open_sites(context.root, facts, each.models, context.device)
                waiting.append(_Waiting(each, claim, opened[place], request_for(context, each, claim)))
        options = options_for(context, unit.units[0])
        requests = [one.request for one in waiting]
        for number, trained in train_many_in_child(requests, listener=listener, options=options):
            each, claim, sites, _ = waiting[number]
            if isinstance(trained, TrainingFailed):
                continue
            with _ending(each, claim, ended):
                if isinstance(trained, UserError):
                    raise trained
                results = results_of(each, claim, trained, sites)
                outcome = claim.commit(results.slices, facts=results.facts, folders=results.folders)
                report_outcome(each.key, outcome)
                ended[each.label] = outcome
    return ended


class _Waiting(NamedTuple):
    """A dictionary that is trained together with others."""

    unit: TrainUnit
    claim: Claim
    sites: "SiteActivations"
    request: "TrainingRequest"


@contextmanager
def _ending(unit: TrainUnit, claim: Claim, ended: dict[str, StageOutcome | UserError]) -> Iterator[None]:
    """An error that a user can fix ends only one training of a group, which records it as its failure."""
    try:
        yield
    except UserError as error:
        claim.__exit__(type(error), error, error.__traceback__)
        ended[unit.label] = error
