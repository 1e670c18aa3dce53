"""Stage: measure a dictionary with a suite: probes, absorption, planted features, seeds, spectra."""

from dataclasses import dataclass

from catalog.ledger import Claim, StageOutcome
from tasks.activations.models.source import ModelConfig
from tasks.common.progress import ProgressListener
from tasks.evaluation.suite import Subject, SuiteConfig, run_suite, suite_of
from tasks.support.policies import Results, StageContext, UnitKey, run_unit, stage_task
from tasks.support.stored import (
    evidence_ids,
    evidence_label,
    evidence_slice,
    open_sites,
    stored_dictionary,
    stored_documents,
)

STAGE, VERSION = "evaluate_suite", 2


@dataclass(frozen=True)
class SuiteUnit:
    """A dictionary, one suite, and the dictionaries that differ from it only in the seed."""

    config: SuiteConfig
    models: tuple[ModelConfig, ...]
    trained: StageOutcome
    siblings: tuple[StageOutcome, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.config.tag()} {evidence_label(self.trained.facts)}"


@stage_task(STAGE)
def evaluate_suite(context: StageContext, unit: SuiteUnit) -> StageOutcome:
    """Measure one dictionary with one suite; facts: its ids and the suite's first values."""
    facts, suite = unit.trained.facts, suite_of(unit.config)
    columns = suite.document_columns
    siblings = unit.siblings if "siblings" in suite.reads else ()

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.measures.metric_rows import headline

        sites = open_sites(context.root, facts, unit.models, context.device)
        documents = stored_documents(context.root, facts["corpus_id"], columns) if columns else None
        dictionary, *others = (
            stored_dictionary(context.root, one.facts, context.device) for one in (unit.trained, *siblings)
        )
        subject = Subject.of(dictionary, sites, claim.scratch, documents, others)
        metrics = run_suite(subject, unit.config, listener)
        slices = [evidence_slice("dictionary_metrics", facts, metrics, tag=unit.config.tag())]
        found = {"suite": unit.config.suite, "headline": headline(metrics, suite.headline())}
        return Results(slices, {**evidence_ids(facts), **found})

    parents = [unit.trained.fingerprint, *sorted(sibling.fingerprint for sibling in siblings)]
    config = {**unit.config.canonical(), "suite_version": suite.version}
    key = UnitKey(STAGE, VERSION, unit.label, config, parents)
    return run_unit(context, key, compute, shares_cores=True)
