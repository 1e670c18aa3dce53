"""Stage: score explanations on held-out contexts, against chance."""

from catalog.ledger import Claim, StageOutcome
from tasks.autointerp.scorer import SCORERS
from tasks.common.progress import ProgressListener
from tasks.support.endpoint import answering_model, labelling_arguments
from tasks.support.evidence import evidence_for
from tasks.support.policies import Results, StageContext, UnitKey, is_complete, run_unit, stage_task
from tasks.support.score_units import ScoreUnit as ScoreUnit
from tasks.support.stored import evidence_ids, grown_slices, newest_texts

STAGE, VERSION = "score_explanations", 2


@stage_task(STAGE, retries=2)
def score_explanations(context: StageContext, unit: ScoreUnit) -> StageOutcome:
    """Score every explanation that has a text; facts: counts, cost, and whether a budget stopped it."""
    facts, ids = unit.explained.facts, evidence_ids(unit.explained.facts)
    prompt_digest = SCORERS[unit.config.scorer].prompt_digest(unit.config)
    config = {"scorer": unit.config.canonical(), "model": answering_model(unit.config.endpoint_name)}

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.autointerp.runner import score

        texts = newest_texts(context.root, unit.explained.fingerprint)
        labelled = set(texts["feature_index"].to_pylist())
        evidence = evidence_for(context, claim, unit.config, facts, "scores", labelled)
        scored = score(
            evidence.features,
            texts,
            unit.config,
            **labelling_arguments(context, claim, unit.config, unit.position, ids),
            chosen=evidence.chosen,
            threshold=unit.threshold,
            listener=listener,
        )
        slices = grown_slices(context.root, claim, unit.label, scored.tables)
        of_unit = {**ids, "texts_digest": facts["texts_digest"]}
        return Results(slices, {**scored.facts, **evidence.facts, **of_unit})

    def is_current(outcome: StageOutcome) -> bool:
        return is_complete(outcome) and outcome.facts["texts_digest"] == facts["texts_digest"]

    key = UnitKey(STAGE, VERSION, unit.label, config, unit.parents, [prompt_digest])
    return run_unit(context, key, compute, is_current)
