"""Stage: measure a dictionary with a suite: probes, absorption, planted features, seeds, spectra."""

from catalog.ledger import Claim, StageOutcome
from tasks.common.progress import ProgressListener
from tasks.evaluation.suite import FeatureSuite, run_suite
from tasks.support.policies import Results, StageContext, run_unit, stage_task
from tasks.support.stored import evidence_ids, evidence_slice
from tasks.support.suite_units import STAGE, SuiteRequest, SuiteUnit


@stage_task(STAGE)
def evaluate_suite(context: StageContext, unit: SuiteUnit) -> StageOutcome:
    """Measure one dictionary with one suite; facts: its ids and the suite's first values."""
    facts, request = unit.trained.facts, SuiteRequest(context, unit)
    suite, tag = request.suite, unit.config.tag()

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.measures.metric_rows import headline

        measured = run_suite(request.subject(claim.scratch), unit.config, listener)
        slices = [evidence_slice("dictionary_metrics", facts, measured.metrics, tag=tag)]
        if isinstance(suite, FeatureSuite) and measured.features is not None:
            slices.append(evidence_slice(suite.table, facts, measured.features, tag=tag))
        found = {"suite": unit.config.suite, "headline": headline(measured.metrics, suite.headline())}
        return Results(slices, {**evidence_ids(facts), **found})

    return run_unit(context, request.key, compute, shares_cores=True)
