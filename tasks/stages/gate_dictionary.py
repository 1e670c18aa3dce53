"""Stage: check on a model whether a foreign dictionary was read correctly, before anything is cached."""

from dataclasses import dataclass

from catalog.ledger import Claim, StageOutcome
from tasks.common.progress import ProgressListener
from tasks.foreign.examination import Examination
from tasks.support.policies import Results, StageContext, UnitKey, run_unit, stage_task
from tasks.support.stored import stored_documents

STAGE, VERSION = "gate_dictionary", 3


@dataclass(frozen=True)
class GateUnit(Examination):
    """A foreign dictionary, the hookpoints to which it is said to belong, and the texts it is examined on."""

    corpus: StageOutcome
    described: tuple[StageOutcome, ...]
    accept_unverified: bool = False

    @property
    def label(self) -> str:
        models = "+".join(model.id for model in self.models)
        return f"{self.source.path.name} at {models}/{self.hookpoints.name()}"


@stage_task(STAGE)
def gate_dictionary(context: StageContext, unit: GateUnit) -> StageOutcome:
    """Examine the dictionary; facts: certificate, and the scale and token norm with which it was read."""
    config = {**unit.canonical(), "accept_unverified": unit.accept_unverified}

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        corpus_id = unit.corpus.facts["corpus_id"]
        documents = stored_documents(context.root, corpus_id, ["document_id", "split", "text"])
        facts = unit.run(
            documents,
            claim.scratch,
            device=context.device,
            accept_unverified=unit.accept_unverified,
            listener=listener,
        )
        return Results([], facts)

    parents = [unit.corpus.fingerprint, *(described.fingerprint for described in unit.described)]
    return run_unit(context, UnitKey(STAGE, VERSION, unit.label, config, parents), compute)
