"""Stage: one streaming pass that finds each feature's examples and statistics."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from catalog.ledger import Claim, StageOutcome
from catalog.rows import with_constants
from catalog.store import SliceWrite
from tasks.activations.models.source import ModelConfig
from tasks.common.progress import ProgressListener
from tasks.mining.config import MiningConfig
from tasks.support.policies import Results, StageContext, UnitKey, run_unit, stage_task
from tasks.support.stored import evidence_subject, open_sites, stored_documents, weights_folder

if TYPE_CHECKING:
    from tasks.activations.models.language_model import LanguageModel
    from tasks.dictionaries.base import Dictionary
    from tasks.dictionaries.sites import SiteActivations
    from tasks.mining.logits import Unembedding

STAGE, VERSION = "mine_examples", 4
_OFF_STREAM = ("attn_z", "mlp_in", "mlp_act")


@dataclass(frozen=True)
class MineUnit:
    """A dictionary and the activation sets that it reads."""

    config: MiningConfig
    models: tuple[ModelConfig, ...]
    """The models of the hookpoints that it reads and writes."""
    trained: StageOutcome

    @property
    def label(self) -> str:
        return str(self.trained.facts["dictionary_id"])


@stage_task(STAGE)
def mine_examples(context: StageContext, unit: MineUnit) -> StageOutcome:
    """Mine features and examples; facts: ids of dictionary, set and corpus, counts of features."""
    facts = unit.trained.facts

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.common.device import choose_device
        from tasks.dictionaries.weights import load_dictionary
        from tasks.mining.miner import mine

        dictionary = load_dictionary(weights_folder(context.root, facts)).to(choose_device(context.device))
        sites = open_sites(context.root, facts, unit.models, context.device)
        language_model = _writing_model(unit, context.device)
        mined = mine(
            dictionary,
            sites.as_read_by(dictionary).inputs,
            stored_documents(context.root, facts["corpus_id"], ["document_id", "text"]),
            _unembedding(unit, language_model),
            unit.config,
            claim.scratch,
            listener,
            extra_columns={
                **_of_several_sites(dictionary, sites),
                **_of_attention(dictionary, sites, language_model),
            },
        )
        ids = {name: facts[name] for name in ("dictionary_id", "activation_set_id")}
        subject = evidence_subject(**ids)
        slices = [
            SliceWrite("features", subject, with_constants(mined.features, **ids)),
            SliceWrite("examples", subject, _with_ids(mined.examples, ids)),
        ]
        counts = {"n_features": mined.features.num_rows, "n_alive": mined.n_alive}
        corpus = {"corpus_id": facts["corpus_id"]}
        return Results(slices, {**ids, **corpus, **counts, "n_nonfinite": mined.n_nonfinite})

    key = UnitKey(STAGE, VERSION, unit.label, unit.config.canonical(), [unit.trained.fingerprint])
    return run_unit(context, key, compute, shares_cores=True)


def _writing_model(unit: MineUnit, device: str) -> "LanguageModel":
    """The model of the last written hookpoint."""
    from tasks.activations.models.language_model import load_language_model

    model_id = unit.trained.facts["writes"][-1]["model_id"]
    return load_language_model(next(model for model in unit.models if model.id == model_id), device)


def _unembedding(unit: MineUnit, language_model: "LanguageModel") -> "Unembedding | None":
    """The unembedding after the last written hookpoint; None if no matrix leads from it to the logits."""
    from tasks.activations.models.output_projection import output_projection
    from tasks.mining.logits import Unembedding

    hookpoint = unit.trained.facts["writes"][-1]["hookpoint"]
    w_u, gain = language_model.unembedding()
    projection = output_projection(language_model, hookpoint)
    if w_u is None or (projection is None and hookpoint.rpartition(".")[2] in _OFF_STREAM):
        return None
    if projection is not None:
        w_u, gain = (projection if gain is None else projection * gain) @ w_u, None
    return Unembedding(w_u, gain, language_model.token_texts(range(w_u.shape[1])))


def _of_attention(
    dictionary: "Dictionary", sites: "SiteActivations", language_model: "LanguageModel"
) -> dict[str, list[Any]]:
    """Head shares and attended tokens of the features of attn_z."""
    from tasks.mining.direct_feature_attribution import attention_columns

    site: Any = sites.reads[0]
    if len(sites.reads) > 1 or sites.writes is not None:
        return {}
    return attention_columns(dictionary, language_model, site.hookpoint, site.tokens)


def _of_several_sites(dictionary: "Dictionary", sites: "SiteActivations") -> dict[str, list[float | None]]:
    """Columns of a crosscoder's features that need the activations of all its hookpoints."""
    from tasks.dictionaries.families.crosscoder_family import Crosscoding
    from tasks.measures.latent_scaling import latent_scaling

    return latent_scaling(dictionary, sites) if isinstance(dictionary, Crosscoding) else {}


def _with_ids(batches: Iterable[pa.RecordBatch], ids: dict[str, str]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield from with_constants(pa.Table.from_batches([batch]), **ids).to_batches()
