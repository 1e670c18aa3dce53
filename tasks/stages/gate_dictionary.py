"""Stage: check on a model whether a foreign dictionary was read correctly, before anything is cached."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.ledger import Claim, StageOutcome
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.models.source import ModelConfig
from tasks.common.progress import Progress, ProgressListener
from tasks.support.policies import Results, StageContext, UnitKey, run_unit, stage_task
from tasks.support.stored import stored_documents

if TYPE_CHECKING:
    from tasks.activations.text.packing import PackedTokens
    from tasks.foreign.gate import GateConfig
    from tasks.foreign.sample import Place, Sample
    from tasks.foreign.source import ForeignSource

STAGE, VERSION = "gate_dictionary", 3
_SPARE = 2
"""Tokens to pack for each token wanted, because special tokens and padding do not count."""


@dataclass(frozen=True)
class GateUnit:
    """A foreign dictionary, and the hookpoints and models to which it is said to belong."""

    source: "ForeignSource"
    place: "Place"
    config: "GateConfig"
    models: tuple[ModelConfig, ...]
    """The models of the place, in its order."""
    activations: ActivationsConfig
    """How texts are packed; its hookpoints do not matter."""
    corpus: StageOutcome
    described: tuple[StageOutcome, ...]
    accept_unverified: bool = False

    @property
    def label(self) -> str:
        models = "+".join(model.id for model in self.models)
        return f"{self.source.path.name} at {models}/{self.place.name()}"


@stage_task(STAGE)
def gate_dictionary(context: StageContext, unit: GateUnit) -> StageOutcome:
    """Examine the dictionary; facts: certificate, and the scale and token norm with which it was read."""
    packing = unit.activations.model_copy(update={"hookpoints": unit.place.reads})
    config = {
        "source": unit.source.described(),
        "place": [list(unit.place.reads), list(unit.place.writes)],
        "gate": unit.config.canonical(),
        "model": "+".join(model.id for model in unit.models),
        "dtype": "+".join(model.dtype for model in unit.models),
        "activations": packing.canonical(),
        "accept_unverified": unit.accept_unverified,
    }

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.foreign.alternatives import read_as
        from tasks.foreign.certificate import refuse_unverified
        from tasks.foreign.gate import examine
        from tasks.foreign.sample import Place

        found = unit.source.read()
        named = Place.of(found.reads, found.writes, unit.place.models) if found.reads else None
        foreign = found.with_(**unit.place._asdict())
        in_sequences = foreign.attention is not None
        sample = _sample(context, unit, claim.scratch, named, in_sequences=in_sequences)
        listener(Progress("import gate", 1, 2))
        certificate = examine(foreign, unit.source.reading, unit.place, sample, unit.config, named)
        if not unit.accept_unverified:
            refuse_unverified(foreign.source, certificate)
        listener(Progress("import gate", 2, 2))
        inputs = sample.inputs_of(unit.place)
        given = read_as(foreign, unit.source.reading, inputs)
        facts: dict[str, Any] = {"scale": given.scale, "token_norm": given.token_norm, "norm": None}
        facts["site_scales"] = list(given.site_scales)
        if inputs.gain_D is not None and inputs.shift_D is not None:
            facts["norm"] = [inputs.gain_D.tolist(), inputs.shift_D.tolist()]
        return Results([], {**facts, "certificate": certificate.as_json()})

    parents = [unit.corpus.fingerprint, *(described.fingerprint for described in unit.described)]
    return run_unit(context, UnitKey(STAGE, VERSION, unit.label, config, parents), compute)


def _sample(
    context: StageContext, unit: GateUnit, scratch: Path, named: "Place | None", *, in_sequences: bool
) -> "Sample":
    """A few thousand tokens of the corpus, packed as for caching; models run one after the other."""
    from tasks.activations.caching.corpus_tokens import check_request, pack_corpus
    from tasks.activations.models.language_model import load_language_model
    from tasks.foreign.sample import check_same_tokens, gather_sample, side_by_side

    n_tokens = min(_SPARE * unit.config.n_tokens, unit.activations.n_tokens)
    packing = unit.activations.model_copy(update={"hookpoints": unit.place.reads, "n_tokens": n_tokens})
    documents = stored_documents(
        context.root, unit.corpus.facts["corpus_id"], ["document_id", "split", "text"]
    )
    packed: dict[str, PackedTokens] = {}
    samples: dict[str, Sample] = {}
    for number, model in enumerate(unit.models):
        language_model = load_language_model(model, context.device)
        check_request(language_model.spec, packing)
        packed[model.id] = pack_corpus(language_model, documents, packing, scratch / f"tokens-{number}")
        check_same_tokens(packed)
        samples[model.id] = gather_sample(
            language_model,
            packed[model.id],
            unit.place,
            unit.config.n_tokens,
            named=named,
            in_sequences=in_sequences,
        )
        del language_model
    return side_by_side(samples).finite(unit.place)
