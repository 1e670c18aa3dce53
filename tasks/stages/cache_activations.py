"""Stage: run a language model over a corpus once and keep the activations of its hookpoints."""

from catalog.ledger import Claim, StageOutcome
from tasks.common.progress import ProgressListener, doing
from tasks.support.cache_units import STAGE, CacheUnit
from tasks.support.growing import stored_growing
from tasks.support.policies import Results, StageContext, run_unit, stage_task
from tasks.support.registration import activation_set_results
from tasks.support.stored import stored_corpus

__all__ = ["CacheUnit", "cache_activations"]


@stage_task(STAGE, retries=2)
def cache_activations(context: StageContext, unit: CacheUnit) -> StageOutcome:
    """Cache every hookpoint of a model in one pass; facts: model_id, corpus_id, activation_sets."""
    config = unit.config.for_model(unit.model)

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.activations.caching.cache import cache_activations as cache
        from tasks.activations.caching.growth import cache_generations
        from tasks.activations.models.language_model import load_language_model

        doing("loading the model", listener)
        language_model = load_language_model(unit.model, context.device)
        if unit.part is None:
            corpus = stored_corpus(context.root, unit.corpus_id)
            cached = cache(language_model, corpus, config, claim.scratch, listener)
        else:
            corpus, earlier = stored_growing(context.root, unit.part), unit.earlier(context.root)
            cached = cache_generations(language_model, corpus, earlier, config, claim.scratch, listener)
        names = corpus.table["document_id"]
        return activation_set_results(unit.model.id, unit.corpus_id, claim.fingerprint, cached, names)

    return run_unit(context, unit.key, compute, shares_cores=True)
