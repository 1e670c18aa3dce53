"""Stage: measure a dictionary on the eval documents, with a PCA and a random dictionary as controls."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from catalog.ledger import Claim, StageOutcome
from tasks.activations.models.source import ModelConfig
from tasks.common.progress import ProgressListener, doing
from tasks.support.policies import Results, StageContext, UnitKey, run_unit, stage_task
from tasks.support.stored import evidence_ids, evidence_label, evidence_slice, open_sets, stored_dictionary

if TYPE_CHECKING:
    from tasks.dictionaries.config import EvaluationConfig

STAGE, VERSION = "evaluate_dictionary", 4


@dataclass(frozen=True)
class EvaluateUnit:
    """A dictionary and the models of the hookpoints that it reads and writes."""

    config: "EvaluationConfig"
    models: tuple[ModelConfig, ...]
    trained: StageOutcome

    @property
    def label(self) -> str:
        return evidence_label(self.trained.facts)


@stage_task(STAGE)
def evaluate_dictionary(context: StageContext, unit: EvaluateUnit) -> StageOutcome:
    """Measure reconstruction, sparsity, geometry and fidelity; facts: the headline figures."""
    facts = unit.trained.facts

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.activations.models.language_model import load_language_model
        from tasks.measures.evaluation import HEADLINE, evaluate
        from tasks.measures.metric_rows import headline
        from tasks.measures.shared_controls import controls_of_process

        doing("loading the model", listener)
        activations = open_sets(context.root, facts, unit.models, context.device)
        language_model, *others = (load_language_model(model, context.device) for model in unit.models)
        metrics = evaluate(
            stored_dictionary(context.root, facts, context.device),
            activations,
            language_model,
            unit.config,
            second_model=others[0] if others else None,
            shared=controls_of_process(),
            listener=listener,
        )
        slices = [evidence_slice("dictionary_metrics", facts, metrics)]
        return Results(slices, {**evidence_ids(facts), "headline": headline(metrics, HEADLINE)})

    key = UnitKey(STAGE, VERSION, unit.label, unit.config.canonical(), [unit.trained.fingerprint])
    return run_unit(context, key, compute, shares_cores=True)
