"""Stage: one streaming pass that finds each feature's examples and statistics."""

from dataclasses import dataclass

from catalog.ledger import Claim, StageOutcome
from tasks.activations.models.source import ModelConfig
from tasks.common.progress import ProgressListener, doing
from tasks.mining.config import MiningConfig
from tasks.support import stored
from tasks.support.mined import MINING, VERSION, continued_mining, mined_results
from tasks.support.policies import Results, StageContext, UnitKey, run_unit, stage_task


@dataclass(frozen=True)
class MineUnit:
    """A dictionary and the activation sets that it reads."""

    config: MiningConfig
    models: tuple[ModelConfig, ...]
    """The models of the hookpoints that it reads and writes."""
    trained: StageOutcome

    @property
    def label(self) -> str:
        return stored.evidence_label(self.trained.facts)


@stage_task(MINING)
def mine_examples(context: StageContext, unit: MineUnit) -> StageOutcome:
    """Mine features and examples; facts: ids of dictionary, set and corpus, counts of features."""
    facts = unit.trained.facts

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.activations.models.language_model import load_language_model
        from tasks.mining.logits import unembedding_at
        from tasks.mining.method_columns import columns_of_hookpoints
        from tasks.mining.miner import mine

        doing("loading the model", listener)
        dictionary = stored.stored_dictionary(context.root, facts, context.device)
        activations = stored.open_sets(context.root, facts, unit.models, context.device)
        written = facts["writes"][-1]
        writer = next(model for model in unit.models if model.id == written["model_id"])
        language_model = load_language_model(writer, context.device)
        inputs = activations.as_read_by(dictionary).inputs
        mined = mine(
            dictionary,
            inputs,
            stored.stored_documents(context.root, facts["corpus_id"], ["document_id", "text"]),
            unembedding_at(language_model, written["hookpoint"]),
            unit.config,
            claim.scratch,
            listener,
            extra_columns=columns_of_hookpoints(dictionary, activations, language_model),
            continued=continued_mining(context.root, facts, unit.config.canonical(), inputs),
        )
        return mined_results(facts, mined)

    key = UnitKey(MINING, VERSION, unit.label, unit.config.canonical(), [unit.trained.fingerprint])
    return run_unit(context, key, compute, shares_cores=True)
