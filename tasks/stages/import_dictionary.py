"""Stage: put a foreign dictionary that passed the gate into the catalogue, like a trained one."""

from catalog.ledger import Claim, StageOutcome
from tasks.common.progress import ProgressListener
from tasks.support.import_units import STAGE, ImportUnit, results_of
from tasks.support.policies import Results, StageContext, run_unit, stage_task


@stage_task(STAGE)
def import_dictionary(context: StageContext, unit: ImportUnit) -> StageOutcome:
    """Convert weights and store the dictionary; facts: the same as those of a training."""

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.dictionaries.weights import save_dictionary
        from tasks.foreign.assembly import assemble_gated

        foreign, dictionary = assemble_gated(unit.source, unit.hookpoints, unit.gated.facts)
        folder = claim.scratch / "dictionary"
        digest = save_dictionary(dictionary, folder, unit.metadata(foreign))
        return results_of(unit, claim, dictionary, digest, folder)

    return run_unit(context, unit.key, compute)
