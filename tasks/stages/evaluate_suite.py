"""Stage: measure a dictionary with a suite: probes, absorption, planted features, seeds, spectra."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catalog.ledger import Claim, StageOutcome
from catalog.rows import with_constants
from catalog.store import SliceWrite
from tasks.activations.models.source import ModelConfig
from tasks.common.progress import ProgressListener
from tasks.support.policies import Results, StageContext, UnitKey, run_unit, stage_task
from tasks.support.stored import evidence_subject, open_sites, stored_documents, weights_folder

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.evaluation.suite import Subject, SuiteConfig

STAGE, VERSION = "evaluate_suite", 2


@dataclass(frozen=True)
class SuiteUnit:
    """A dictionary, one suite, and the dictionaries that differ from it only in the seed."""

    config: "SuiteConfig"
    models: tuple[ModelConfig, ...]
    trained: StageOutcome
    siblings: tuple[StageOutcome, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.config.tag()} {self.trained.facts['dictionary_id']}"


@stage_task(STAGE)
def evaluate_suite(context: StageContext, unit: SuiteUnit) -> StageOutcome:
    """Measure one dictionary with one suite; facts: its ids and the suite's first values."""
    from tasks.evaluation.suite import suite_of

    facts = unit.trained.facts
    suite = suite_of(unit.config)
    siblings = unit.siblings if "siblings" in suite.reads else ()

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.evaluation.suite import run_suite

        subject = _subject(context, unit, suite.reads, siblings, claim.scratch)
        metrics = run_suite(subject, unit.config, listener)
        keys = {name: facts[name] for name in ("dictionary_id", "activation_set_id")}
        wanted = set(suite.headline())
        headline = {
            " ".join(filter(None, (row["metric"], row["variant"]))): row["value"]
            for row in metrics.to_pylist()
            if (row["metric"], row["variant"]) in wanted
        }
        place = f"{evidence_subject(**keys)} {unit.config.tag()}"
        slices = [SliceWrite("dictionary_metrics", place, with_constants(metrics, **keys))]
        return Results(slices, {**keys, "suite": unit.config.suite, "headline": headline})

    parents = [unit.trained.fingerprint, *sorted(sibling.fingerprint for sibling in siblings)]
    config = {**unit.config.canonical(), "suite_version": suite.version}
    key = UnitKey(STAGE, VERSION, unit.label, config, parents)
    return run_unit(context, key, compute, shares_cores=True)


def _subject(
    context: StageContext,
    unit: SuiteUnit,
    reads: frozenset[str],
    siblings: Sequence[StageOutcome],
    scratch: "Path",
) -> "Subject":
    from tasks.common.device import choose_device
    from tasks.dictionaries.weights import load_dictionary
    from tasks.evaluation.suite import Subject

    facts, device = unit.trained.facts, choose_device(context.device)
    sites = open_sites(context.root, facts, unit.models, context.device)
    documents: dict[str, list[Any]] = {"text": [], "labels": []}
    if reads & {"texts", "labels"}:
        columns = ["document_id", *(["text"] if "texts" in reads else []), "labels"]
        table = stored_documents(context.root, facts["corpus_id"], columns)
        documents |= {name: table[name].to_pylist() for name in columns if name != "document_id"}
    dictionary = load_dictionary(weights_folder(context.root, facts)).to(device)
    weights = (load_dictionary(weights_folder(context.root, found.facts)).to(device) for found in siblings)
    return Subject(
        dictionary=dictionary,
        activations=sites.as_read_by(dictionary),
        scratch=scratch,
        texts=documents["text"],
        labels=[{k: v for k, v in row or [] if v is not None} for row in documents["labels"]],
        special_token_ids=frozenset(getattr(sites.reads[0], "meta", {}).get("special_token_ids") or ()),
        siblings=list(weights),
    )
