"""Stage: explain the features of a dictionary, by rules or by asking a language model."""

from dataclasses import dataclass
from functools import partial

from catalog.ledger import Claim, StageOutcome
from tasks.autointerp.explainer import EXPLAINERS, ExplainerConfig
from tasks.autointerp.records import n_firing
from tasks.common.progress import ProgressListener
from tasks.support import stored
from tasks.support.endpoint import answering_model, client_of
from tasks.support.observed import is_explained
from tasks.support.policies import Results, StageContext, UnitKey, run_unit, stage_task

STAGE, VERSION = "explain_features", 2


@dataclass(frozen=True)
class ExplainUnit:
    """A mined dictionary and an explainer."""

    config: ExplainerConfig
    mined: StageOutcome
    position: int = 0
    """Position of the explainer in the pipeline; a feature's label comes from the first that gave a text."""

    @property
    def label(self) -> str:
        return f"{self.config.tag()} {stored.evidence_label(self.mined.facts)}"


@stage_task(STAGE, retries=2)
def explain_features(context: StageContext, unit: ExplainUnit) -> StageOutcome:
    """Explain every firing feature; facts: counts by status, cost, and whether a budget stopped it."""
    facts = unit.mined.facts
    prompt_digest = EXPLAINERS[unit.config.explainer].prompt_digest(unit.config)
    config = {"explainer": unit.config.canonical(), "model": answering_model(unit.config.endpoint_name)}

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.autointerp.runner import explain

        features, evidence = stored.stored_evidence(context.root, facts)
        explained = explain(
            evidence,
            unit.config,
            **stored.evidence_ids(facts),
            scratch=claim.scratch,
            fingerprint=claim.fingerprint,
            client=client_of(unit.config.endpoint_name, context, claim),
            run_id=context.run_id,
            n_features=n_firing(features),
            position=unit.position,
            listener=listener,
        )
        slices = stored.grown_slices(context.root, claim, unit.label, explained.tables)
        inputs = {**stored.evidence_facts(facts), "explainer": unit.config.tag()}
        return Results(slices, {**explained.facts, **inputs, "prompt_digest": prompt_digest})

    key = UnitKey(STAGE, VERSION, unit.label, config, [unit.mined.fingerprint], [prompt_digest])
    return run_unit(context, key, compute, partial(is_explained, context.root))
