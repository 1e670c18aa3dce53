"""Stage: run a language model over a corpus once and keep the activations of its hookpoints."""

from dataclasses import dataclass

from catalog.ledger import Claim, StageOutcome
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.models.source import ModelConfig
from tasks.common.progress import ProgressListener
from tasks.support.policies import Results, StageContext, UnitKey, run_unit, stage_task
from tasks.support.registration import activation_set_results
from tasks.support.stored import stored_corpus

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
    config, corpus_id = unit.config.for_model(unit.model), unit.corpus.facts["corpus_id"]
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
        corpus = stored_corpus(context.root, corpus_id)
        cached = cache(language_model, corpus, config, claim.scratch, listener)
        names = corpus.table["document_id"]
        return activation_set_results(unit.model.id, corpus_id, claim.fingerprint, cached, names)

    return run_unit(context, key, compute, shares_cores=True)
