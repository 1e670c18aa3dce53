"""Stage: train a dictionary on activation sets, in a child process that a watchdog looks after."""

from catalog.errors import UserError
from catalog.ledger import Claim, StageOutcome
from tasks.common.progress import ProgressListener
from tasks.support.aliases import point_alias
from tasks.support.policies import Results, StageContext, run_unit, stage_task
from tasks.support.stored import open_sites
from tasks.support.training_units import STAGE, TrainUnit, facts_of, options_for, request_for, results_of


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
