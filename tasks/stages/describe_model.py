"""Stage: put a language model into the catalogue, identified by the bytes of its weights and tokenizer."""

from dataclasses import dataclass

from catalog.ledger import Claim, StageOutcome
from catalog.store import SliceWrite
from tasks.activations.models.derived import run_digest
from tasks.activations.models.source import (
    ModelConfig,
    check_model_folder,
    model_folder,
    tokenizer_digest,
)
from tasks.activations.text.control_tokens import holds_control_words
from tasks.common.progress import ProgressListener
from tasks.support.policies import Results, StageContext, UnitKey, run_unit, stage_task

STAGE, VERSION = "describe_model", 2


@dataclass(frozen=True)
class ModelUnit:
    """A language model."""

    model: ModelConfig

    @property
    def label(self) -> str:
        return self.model.id


@stage_task(STAGE, retries=3)
def describe_model(context: StageContext, unit: ModelUnit) -> StageOutcome:
    """Describe a model from its files; facts: model_id and digests.

    Weights are loaded only of a model that is quantised, to measure what the rounding costs.
    """
    folder = model_folder(unit.model)
    lacking = {"head": "none"} if check_model_folder(folder).lacks_head else {}
    read_as = {"control_words": "text"} if holds_control_words(folder) else {}
    digests = {"tokenizer_digest": tokenizer_digest(folder), "weights_digest": run_digest(unit.model)}
    model = unit.model.model_copy(update={"hookpoints": ()}).canonical()

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.activations.caching.tables import model_row
        from tasks.activations.models.language_model import load_language_model, read_model_spec

        lost = load_language_model(unit.model).quantisation if unit.model.quantise else None
        row = model_row(read_model_spec(unit.model), unit.model, lost)
        return Results([SliceWrite("models", unit.label, row)], {"model_id": unit.model.id, **digests})

    return run_unit(
        context,
        UnitKey(STAGE, VERSION, unit.label, {"model": model, **digests, **lacking, **read_as}),
        compute,
    )
