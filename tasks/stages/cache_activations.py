"""Stage: run a language model over a corpus once and keep the activations of its hookpoints."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.ids import digest, slug, tagged_id
from catalog.ledger import Claim, StageOutcome
from catalog.store import SliceWrite
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.models.source import ModelConfig
from tasks.common.progress import ProgressListener
from tasks.support.policies import Results, StageContext, UnitKey, run_unit, stage_task
from tasks.support.stored import stored_documents, stored_rows

if TYPE_CHECKING:
    from tasks.activations.caching.cache import CachedActivations
    from tasks.activations.corpora import CorpusTable

STAGE, VERSION = "cache_activations", 2


@dataclass(frozen=True)
class CacheUnit:
    """A model, a corpus, and the settings of the activations."""

    model: ModelConfig
    config: ActivationsConfig
    corpus: StageOutcome
    described: StageOutcome

    @property
    def label(self) -> str:
        return f"{self.model.id} on {self.corpus.facts['corpus_id']}"


@stage_task(STAGE, retries=2)
def cache_activations(context: StageContext, unit: CacheUnit) -> StageOutcome:
    """Cache every hookpoint of a model in one pass; facts: model_id, corpus_id, activation_sets."""
    config = unit.config.for_model(unit.model)
    key = UnitKey(
        STAGE,
        VERSION,
        unit.label,
        {"model": unit.model.id, "dtype": unit.model.dtype, "activations": config.canonical()},
        [unit.corpus.fingerprint, unit.described.fingerprint],
    )

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.activations.caching.cache import cache_activations as cache
        from tasks.activations.models.language_model import load_language_model

        language_model = load_language_model(unit.model, context.device)
        corpus = _corpus(context.root, unit.corpus.facts["corpus_id"])
        cached = cache(language_model, corpus, config, claim.scratch, listener)
        return _results(unit, claim.fingerprint, cached, corpus)

    return run_unit(context, key, compute, shares_cores=True)


def _corpus(root: Path, corpus_id: str) -> "CorpusTable":
    """The corpus of the catalogue: exactly the texts from which the examples will be cut."""
    from tasks.activations.corpora import CorpusTable

    (row,) = stored_rows(root, "corpora", corpus_id=corpus_id).to_pylist()
    documents = stored_documents(root, corpus_id, ["document_id", "split", "n_chars", "text", "labels"])
    return CorpusTable(
        documents,
        row["source"],
        row["revision"],
        row["digest"],
        row["n_duplicates"],
        n_empty=0,
        chat_template=row["chat_template"],
    )


def _results(
    unit: CacheUnit, fingerprint: str, cached: "CachedActivations", corpus: "CorpusTable"
) -> Results:
    from tasks.activations.caching.tables import activation_set_row, sequence_rows

    slices: list[SliceWrite] = []
    folders: dict[str, Path] = {}
    sets: dict[str, dict[str, str]] = {}
    corpus_id, names = unit.corpus.facts["corpus_id"], corpus.table["document_id"]
    for hookpoint, folder in cached.folders.items():
        activation_set = cached.open(hookpoint)
        set_id = tagged_id(f"{unit.model.id}/{hookpoint}", digest([fingerprint, hookpoint]))
        uri = f"_blobs/activations/{slug(set_id)}"
        row = activation_set_row(activation_set, set_id, corpus_id, uri)
        slices.append(SliceWrite("activation_sets", set_id, row))
        slices.append(SliceWrite("sequences", set_id, sequence_rows(activation_set, set_id, names)))
        folders[uri] = folder
        sets[hookpoint] = {"activation_set_id": set_id, "uri": uri}
    facts = {"model_id": unit.model.id, "corpus_id": corpus_id, "activation_sets": sets}
    return Results(slices, facts, folders)
