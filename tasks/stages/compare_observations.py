"""Stage: which features differ between two models, two corpora, or two groups of documents."""

from catalog.ledger import Claim, StageOutcome
from tasks.common.progress import ProgressListener
from tasks.support.compare_units import STAGE, CompareUnit, shifts_of
from tasks.support.policies import Results, StageContext, run_unit, stage_task


@stage_task(STAGE)
def compare_observations(context: StageContext, unit: CompareUnit) -> StageOutcome:
    """Compare two sides; facts: ids of dictionary and sets, the comparison, and its summary."""

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        found = shifts_of(context, unit, listener)
        ids = {
            "dictionary_id": unit.a.facts["dictionary_id"],
            "set_a": unit.a.facts["activation_set_id"],
            "set_b": unit.b.facts["activation_set_id"],
            "comparison": unit.config.name,
        }
        feature_shifts = unit.slice_of(found.table)
        return Results([feature_shifts], {**ids, "summary": found.facts})

    return run_unit(context, unit.key, compute, shares_cores=True)
