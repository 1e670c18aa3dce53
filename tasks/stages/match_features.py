"""Stage: match the features of two dictionaries."""

from catalog.ledger import Claim, StageOutcome
from catalog.store import SliceWrite
from tasks.common.progress import ProgressListener, doing
from tasks.support.match_units import STAGE, MatchUnit, side_of
from tasks.support.policies import Results, StageContext, run_unit, stage_task


@stage_task(STAGE)
def match_features(context: StageContext, unit: MatchUnit) -> StageOutcome:
    """Match two dictionaries; facts: both ids and the matcher's summary."""

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.matching.matcher import match_dictionaries

        doing("reading both dictionaries", listener)
        first, second = (side_of(context, landed) for landed in (unit.first, unit.second))
        matched = match_dictionaries(first, second, unit.config, listener)
        ids = {"dictionary_a": first.dictionary_id, "dictionary_b": second.dictionary_id}
        facts = {**ids, "matcher": unit.config.matcher, "summary": dict(matched.facts)}
        return Results([SliceWrite("matches", unit.label, matched.table)], facts)

    return run_unit(context, unit.key, compute, shares_cores=True)
