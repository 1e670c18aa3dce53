"""Stage: explain the features of a dictionary, by rules or by asking a language model."""

from dataclasses import dataclass
from functools import partial

from catalog.ledger import Claim, StageOutcome
from tasks.autointerp.explainer import EXPLAINERS, ExplainerConfig
from tasks.common.progress import ProgressListener
from tasks.support import stored
from tasks.support.endpoint import answering_model, labelling_arguments
from tasks.support.evidence import evidence_for
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
    """Explain the chosen features; facts: counts by status, cost, and whether a budget stopped it."""
    facts = unit.mined.facts
    prompt_digest = EXPLAINERS[unit.config.explainer].prompt_digest(unit.config)
    config = {"explainer": unit.config.canonical(), "model": answering_model(unit.config.endpoint_name)}

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.autointerp.runner import explain

        evidence = evidence_for(context, claim, unit.config, facts, "explanations")
        explained = explain(
            evidence.features,
            unit.config,
            **labelling_arguments(context, claim, unit.config, unit.position, stored.evidence_ids(facts)),
            fingerprint=claim.fingerprint,
            n_features=evidence.n_features,
            listener=listener,
        )
        slices = stored.grown_slices(context.root, claim, unit.label, explained.tables)
        of_unit = {"explainer": unit.config.tag(), "prompt_digest": prompt_digest}
        return Results(
            slices, {**stored.evidence_facts(facts), **evidence.facts, **explained.facts, **of_unit}
        )

    key = UnitKey(STAGE, VERSION, unit.label, config, [unit.mined.fingerprint], [prompt_digest])
    return run_unit(context, key, compute, partial(is_explained, context.root))
