"""Stage: relate the features of a mined dictionary to the labels of the documents."""

from dataclasses import dataclass

from catalog.ledger import Claim, StageOutcome
from tasks.common.progress import ProgressListener
from tasks.observing.config import AssociationsConfig
from tasks.support.observed import Observed, observed_documents, stored_firings
from tasks.support.policies import Results, StageContext, UnitKey, run_unit, stage_task
from tasks.support.stored import evidence_ids, evidence_slice

STAGE, VERSION = "associate_labels", 1
REASONS_KEPT = 20


@dataclass(frozen=True)
class AssociateUnit:
    """A mined dictionary whose corpus has labels."""

    config: AssociationsConfig
    observed: Observed

    @property
    def label(self) -> str:
        return self.observed.subject


@stage_task(STAGE)
def associate_labels(context: StageContext, unit: AssociateUnit) -> StageOutcome:
    """Associate features with labels; facts: ids, tests, those with q <= 0.05, labels left out and why."""
    facts = unit.observed.facts

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.observing.associations import associate
        from tasks.observing.documents import label_columns

        documents, tokens_G = observed_documents(context.root, facts)
        firings = stored_firings(context.root, facts, documents)
        found = associate(firings, label_columns(documents["labels"]), tokens_G, unit.config)
        counts = {"n_tests": found.n_tests, "n_found": found.n_found, "n_skipped": len(found.skipped)}
        slices = [evidence_slice("associations", facts, found.batches)]
        return Results(slices, {**evidence_ids(facts), **counts, "skipped": found.skipped[:REASONS_KEPT]})

    parents = [unit.observed.mined.fingerprint]
    key = UnitKey(STAGE, VERSION, unit.label, unit.config.canonical(), parents)
    return run_unit(context, key, compute, shares_cores=True)
