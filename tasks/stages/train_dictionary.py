"""Stage: train a dictionary on activation sets, in a child process with a supervisor."""

from catalog.errors import UserError
from catalog.ledger import Claim, StageOutcome
from tasks.common.progress import ProgressListener, doing
from tasks.support.aliases import point_alias
from tasks.support.policies import Results, StageContext, run_unit, stage_task
from tasks.support.stored import open_sets
from tasks.support.training_units import STAGE, TrainUnit, facts_of, request_for, results_of, trained_in_child


@stage_task(STAGE)
def train_dictionary(context: StageContext, unit: TrainUnit) -> StageOutcome:
    """Train to the end, resuming at the last checkpoint; facts: dictionary_id, weights_uri and its inputs.

    A found dictionary gets its alias back if the alias referred to another one meanwhile.
    """

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        activations = open_sets(context.root, facts_of(unit, claim.fingerprint), unit.models, context.device)
        request = request_for(context, unit, claim)
        ((_, trained),) = trained_in_child(context, unit.training, [request], listener)
        if isinstance(trained, UserError):
            raise trained
        doing("checking the weights", listener)
        return results_of(unit, claim, trained, activations)

    outcome = run_unit(context, unit.key, compute)
    if not outcome.recomputed:
        point_alias(context.root, unit.alias, str(outcome.facts["dictionary_id"]))
    return outcome
