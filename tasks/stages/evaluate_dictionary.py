"""Stage: measure a dictionary on the eval documents, with a PCA and a random dictionary as controls."""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from catalog.ledger import Claim, StageOutcome
from catalog.rows import with_constants
from catalog.store import SliceWrite
from tasks.activations.models.source import ModelConfig
from tasks.common.progress import ProgressListener
from tasks.support.policies import Results, StageContext, UnitKey, run_unit, stage_task
from tasks.support.stored import evidence_subject, open_sites, weights_folder

if TYPE_CHECKING:
    from tasks.dictionaries.config import EvaluationConfig
    from tasks.measures.shared_controls import SharedControls

STAGE, VERSION = "evaluate_dictionary", 4


@dataclass(frozen=True)
class EvaluateUnit:
    """A dictionary and the models of the hookpoints that it reads and writes."""

    config: "EvaluationConfig"
    models: tuple[ModelConfig, ...]
    trained: StageOutcome

    @property
    def label(self) -> str:
        return str(self.trained.facts["dictionary_id"])


@stage_task(STAGE)
def evaluate_dictionary(context: StageContext, unit: EvaluateUnit) -> StageOutcome:
    """Measure reconstruction, sparsity, geometry and fidelity; facts: the headline figures."""
    facts = unit.trained.facts

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.activations.models.language_model import load_language_model
        from tasks.common.device import choose_device
        from tasks.dictionaries.weights import load_dictionary
        from tasks.measures.evaluation import evaluate

        sites = open_sites(context.root, facts, unit.models, context.device)
        language_model, *others = (load_language_model(model, context.device) for model in unit.models)
        dictionary = load_dictionary(weights_folder(context.root, facts)).to(choose_device(context.device))
        second_model = others[0] if others else None
        metrics = evaluate(
            dictionary,
            sites,
            language_model,
            unit.config,
            second_model=second_model,
            shared=_shared_controls(),
            listener=listener,
        )
        keys = {name: facts[name] for name in ("dictionary_id", "activation_set_id")}
        subject = evidence_subject(**keys)
        headline = {
            " ".join(filter(None, (row["metric"], row["variant"]))): row["value"]
            for row in metrics.to_pylist()
            if row["metric"] in ("fvu", "l0") and row["variant"] in ("", "without_massive")
        }
        slices = [SliceWrite("dictionary_metrics", subject, with_constants(metrics, **keys))]
        return Results(slices, {**keys, "headline": headline})

    key = UnitKey(STAGE, VERSION, unit.label, unit.config.canonical(), [unit.trained.fingerprint])
    return run_unit(context, key, compute, shares_cores=True)


@cache
def _shared_controls() -> "SharedControls":
    """Controls that this process has measured; their key alone decides what they are."""
    from tasks.measures.shared_controls import SharedControls

    return SharedControls()
