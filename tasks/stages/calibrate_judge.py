"""Stage: let a judge judge features with known rules before it judges labels."""

from dataclasses import dataclass

from catalog import queries
from catalog.connection import connect
from catalog.ids import digest
from catalog.ledger import Claim, StageOutcome
from tasks.autointerp.judging import JudgeConfig
from tasks.autointerp.scorer import SCORERS
from tasks.common.progress import ProgressListener
from tasks.support.endpoint import answering_model, client_of
from tasks.support.policies import Results, StageContext, UnitKey, run_unit, stage_task
from tasks.support.stored import grown_slices

STAGE, VERSION = "calibrate_judge", 1


@dataclass(frozen=True)
class JudgeUnit:
    """A judge with its prompt, and the corpus whose text it is shown."""

    config: JudgeConfig
    corpus_id: str

    @property
    def label(self) -> str:
        return f"{self.config.endpoint} for {self.config.scorer}"


@stage_task(STAGE, retries=2)
def calibrate_judge(context: StageContext, unit: JudgeUnit) -> StageOutcome:
    """Calibrate a judge once for each prompt; facts: whether it reads, its threshold, figures, cost."""
    from tasks.autointerp.calibration import CALIBRATION_VERSION, calibrate

    with connect(context.root) as connection:
        rows = queries.calibration_texts(corpus_id=unit.corpus_id).read(connection).to_pylist()
    texts = [(str(row["document_id"]), str(row["text"])) for row in rows]
    prompt_digest = SCORERS[unit.config.scorer].prompt_digest(unit.config)
    endpoint = unit.config.endpoint
    config = {"model": answering_model(endpoint), "texts": digest(texts), "version": CALIBRATION_VERSION}
    config |= {name: getattr(unit.config, name) for name in ("scorer", "items_per_call", "logprobs")}

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        client = client_of(endpoint, context, claim)
        subject = f"{client.model if client else None} {prompt_digest[:16]}"
        found = calibrate(
            texts, unit.config, scratch=claim.scratch, client=client, run_id=context.run_id, listener=listener
        )
        return Results(grown_slices(context.root, claim, subject, found.tables), found.facts)

    return run_unit(context, UnitKey(STAGE, VERSION, unit.label, config, [], [prompt_digest]), compute)
