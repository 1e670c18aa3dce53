"""Stage: score explanations on held-out contexts, against chance."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from catalog.ledger import Claim, StageOutcome
from catalog.store import SliceWrite
from tasks.autointerp.records import read_evidence
from tasks.autointerp.scorer import SCORERS, ScorerConfig
from tasks.common.progress import ProgressListener
from tasks.support.endpoint import answering_model, client_of
from tasks.support.policies import Results, StageContext, UnitKey, is_complete, run_unit, stage_task
from tasks.support.stored import document_labels, example_blocks, stored_rows, with_earlier

STAGE, VERSION = "score_explanations", 2


@dataclass(frozen=True)
class ScoreUnit:
    """Explanations of one dictionary by one explainer, and a scorer."""

    config: ScorerConfig
    explained: StageOutcome
    position: int = 0
    """Position of the scorer in the pipeline; the first gives the headline score of an explanation."""

    @property
    def label(self) -> str:
        facts = self.explained.facts
        return f"{self.config.tag()} of {facts['explainer']} {facts['dictionary_id']}"


@stage_task(STAGE, retries=2)
def score_explanations(context: StageContext, unit: ScoreUnit) -> StageOutcome:
    """Score every explanation that has a text; facts: counts, cost, and whether a budget stopped it."""
    facts = unit.explained.facts
    ids = {name: facts[name] for name in ("dictionary_id", "activation_set_id")}
    prompt_digest = SCORERS[unit.config.scorer].prompt_digest(unit.config)
    config = {"scorer": unit.config.canonical(), "model": answering_model(unit.config.endpoint_name)}

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.autointerp.runner import score

        features = stored_rows(context.root, "features", **ids)
        labels = document_labels(context.root, facts["corpus_id"])
        scored = score(
            read_evidence(features, example_blocks(context.root, **ids), labels),
            newest_texts(context.root, unit.explained.fingerprint),
            unit.config,
            **ids,
            scratch=claim.scratch,
            client=client_of(unit.config.endpoint_name, context.root, claim, forced=STAGE in context.forced),
            run_id=context.run_id,
            position=unit.position,
            listener=listener,
        )
        tables = {"scores": scored.scores, "judgements": scored.judgements, "llm_calls": scored.llm_calls}
        slices = [
            SliceWrite(table, unit.label, with_earlier(context.root, claim.fingerprint, table, rows))
            for table, rows in tables.items()
        ]
        return Results(slices, {**scored.facts, **ids, "texts_digest": facts["texts_digest"]})

    def is_current(outcome: StageOutcome) -> bool:
        """Explanations that were added or rewritten since then are still to be scored."""
        return is_complete(outcome) and outcome.facts["texts_digest"] == facts["texts_digest"]

    key = UnitKey(STAGE, VERSION, unit.label, config, [unit.explained.fingerprint], [prompt_digest])
    return run_unit(context, key, compute, is_current)


def newest_texts(root: Path, fingerprint: str) -> pa.Table:
    """For each feature the newest explanation with a text that one explaining stage wrote."""
    rows = stored_rows(root, "explanations", fingerprint=fingerprint, status="ok")
    rows = rows.sort_by([("feature_index", "ascending"), ("created_at", "descending")])
    index = rows["feature_index"].to_pylist()
    first = [i for i, feature in enumerate(index) if i == 0 or feature != index[i - 1]]
    return rows.take(pa.array(first, pa.int64()))
