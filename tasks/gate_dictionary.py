"""Stage: find out whether a foreign dictionary does on a model what it should, before anything is cached."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.ledger import Claim, StageOutcome
from tasks.activations.config import ActivationsConfig
from tasks.activations.model_source import ModelConfig
from tasks.common.progress import Progress, ProgressListener
from tasks.policies import Results, StageContext, UnitKey, run_unit, stage_task
from tasks.stored import stored_documents

if TYPE_CHECKING:
    from tasks.dictionaries.formats.source import ForeignSource
    from tasks.dictionaries.importing.gate import GateConfig
    from tasks.dictionaries.importing.sample import Place, Sample

STAGE, VERSION = "gate_dictionary", 1
_SPARE = 2
"""Tokens that are packed for each that is wanted: special tokens and padding do not count."""


@dataclass(frozen=True)
class GateUnit:
    """A foreign dictionary, and the place of a model it is said to belong to."""

    source: "ForeignSource"
    place: "Place"
    config: "GateConfig"
    model: ModelConfig
    activations: ActivationsConfig
    """How texts are packed; its hookpoints do not matter."""
    corpus: StageOutcome
    described: StageOutcome
    accept_unverified: bool = False

    @property
    def label(self) -> str:
        return f"{self.source.path.name} at {self.model.id}/{self.place.name()}"


@stage_task(STAGE)
def gate_dictionary(context: StageContext, unit: GateUnit) -> StageOutcome:
    """Examine the dictionary; facts: certificate, and the scale and token norm it was read with."""
    packing = unit.activations.model_copy(update={"hookpoints": unit.place.reads})
    config = {
        "source": unit.source.described(),
        "place": [list(unit.place.reads), list(unit.place.writes)],
        "gate": unit.config.canonical(),
        "model": unit.model.id,
        "dtype": unit.model.dtype,
        "activations": packing.canonical(),
        "accept_unverified": unit.accept_unverified,
    }

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.dictionaries.formats.alternatives import read_as
        from tasks.dictionaries.importing.certificate import refuse_unverified
        from tasks.dictionaries.importing.gate import examine

        foreign = unit.source.read().with_(reads=unit.place.reads, writes=unit.place.writes)
        sample = _sample(context, unit, claim.scratch)
        listener(Progress("import gate", 1, 2))
        certificate = examine(foreign, unit.source.reading, unit.place, sample, unit.config)
        if not unit.accept_unverified:
            refuse_unverified(foreign.source, certificate)
        listener(Progress("import gate", 2, 2))
        inputs = sample.inputs_of(unit.place)
        given = read_as(foreign, unit.source.reading, inputs)
        facts: dict[str, Any] = {"scale": given.scale, "token_norm": given.token_norm, "norm": None}
        if inputs.gain_D is not None and inputs.shift_D is not None:
            facts["norm"] = [inputs.gain_D.tolist(), inputs.shift_D.tolist()]
        return Results([], {**facts, "certificate": certificate.as_json()})

    parents = [unit.corpus.fingerprint, unit.described.fingerprint]
    return run_unit(context, UnitKey(STAGE, VERSION, unit.label, config, parents), compute)


def _sample(context: StageContext, unit: GateUnit, scratch: Path) -> "Sample":
    """A few thousand tokens of the corpus, packed as they would be cached."""
    from tasks.activations.corpus_tokens import check_request, pack_corpus
    from tasks.activations.language_model import load_language_model
    from tasks.dictionaries.importing.sample import gather_sample

    language_model = load_language_model(unit.model, context.device)
    n_tokens = min(_SPARE * unit.config.n_tokens, unit.activations.n_tokens)
    packing = unit.activations.model_copy(update={"hookpoints": unit.place.reads, "n_tokens": n_tokens})
    check_request(language_model.spec, packing)
    corpus_id = unit.corpus.facts["corpus_id"]
    documents = stored_documents(context.root, corpus_id, ["document_id", "split", "text"])
    packed = pack_corpus(language_model, documents, packing, scratch / "tokens")
    return gather_sample(language_model, packed, unit.place, unit.config.n_tokens)
