"""Stage: train a dictionary on an activation set, in a child process that a watchdog looks after."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from catalog.ids import canonical_json, slug, tagged_id
from catalog.ledger import Claim, StageOutcome
from catalog.rows import with_constants
from catalog.schemas import TABLES
from catalog.store import SliceWrite
from tasks.activations.model_source import ModelConfig
from tasks.activations.translation import transformer_lens_name
from tasks.common.progress import ProgressListener
from tasks.policies import Results, StageContext, UnitKey, run_unit, stage_task

if TYPE_CHECKING:
    from tasks.activations.shards import ActivationSet
    from tasks.dictionaries.base import Dictionary
    from tasks.dictionaries.config import DictionaryConfig
    from tasks.dictionaries.supervisor import ChildTraining

STAGE, VERSION = "train_dictionary", 2
VERIFIED_TOKENS = 4_096


@dataclass(frozen=True)
class TrainUnit:
    """A dictionary to train on one hookpoint of a caching run."""

    config: "DictionaryConfig"
    cached: StageOutcome
    hookpoint: str
    model: ModelConfig

    @property
    def alias(self) -> str:
        return f"{self.cached.facts['model_id']}/{self.hookpoint}/{self.config.name()}"

    @property
    def label(self) -> str:
        return self.alias


@stage_task(STAGE)
def train_dictionary(context: StageContext, unit: TrainUnit) -> StageOutcome:
    """Train to the end, resuming at the last checkpoint; facts: dictionary_id, weights_uri and its inputs."""
    activations = unit.cached.facts["activation_sets"][unit.hookpoint]
    training = {name: value for name, value in unit.config.canonical().items() if name != "evaluation"}
    config = {"dictionary": training, "hookpoint": unit.hookpoint}

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.activations.cache import open_intact
        from tasks.dictionaries.supervisor import train_in_child

        activation_set = open_intact(context.root / activations["uri"], unit.model, context.device)
        dictionary_id = tagged_id(unit.alias, claim.fingerprint)
        trained = train_in_child(
            unit.config,
            context.root / activations["uri"],
            claim.scratch,
            device=context.device,
            listener=listener,
            checkpoint_seconds=context.checkpoint_seconds,
            metadata={
                "model_name": unit.cached.facts["model_id"],
                "hook_name": transformer_lens_name(unit.hookpoint),
            },
        )
        uri = f"_blobs/dictionaries/{slug(dictionary_id)}"
        facts = {
            "dictionary_id": dictionary_id,
            "alias": unit.alias,
            "weights_uri": uri,
            "hookpoint": unit.hookpoint,
            "activation_set_id": activations["activation_set_id"],
            "activations_uri": activations["uri"],
            "model_id": unit.cached.facts["model_id"],
            "corpus_id": unit.cached.facts["corpus_id"],
        }
        log = with_constants(trained.log, dictionary_id=dictionary_id)
        slices = [
            SliceWrite("dictionaries", dictionary_id, _row(unit.config, facts, trained, activation_set)),
            SliceWrite("training_log", dictionary_id, log),
            SliceWrite("aliases", unit.alias, _alias_row(unit.alias, dictionary_id)),
        ]
        return Results(slices, facts, {uri: trained.folder})

    return run_unit(context, UnitKey(STAGE, VERSION, unit.label, config, [unit.cached.fingerprint]), compute)


def _row(
    config: "DictionaryConfig", facts: dict[str, str], trained: "ChildTraining", activations: "ActivationSet"
) -> pa.Table:
    hook = {"model_id": facts["model_id"], "hookpoint": facts["hookpoint"]}
    row = {
        "dictionary_id": facts["dictionary_id"],
        "alias": facts["alias"],
        "reads": [hook],
        "writes": [hook],
        "unit_type": "latent",
        "architecture": config.architecture,
        "d_in": trained.dictionary.d_in,
        "d_sae": trained.dictionary.d_sae,
        "config": canonical_json(config.canonical()),
        "weights_uri": facts["weights_uri"],
        "weights_digest": trained.result.weights_digest,
        "activation_set_id": facts["activation_set_id"],
        "origin": "trained",
        "verified": _reconstructs(trained.dictionary, activations),
        "created_at": datetime.now(UTC),
    }
    schema = TABLES["dictionaries"].schema
    return pa.Table.from_pylist([row], schema=pa.schema([schema.field(name) for name in row]))


def _reconstructs(dictionary: "Dictionary", activations: "ActivationSet") -> bool:
    """Whether the weights, as saved and read back, explain more of held-out activations than their mean."""
    from tasks.dictionaries.evaluation import eval_batches
    from tasks.dictionaries.metrics import MetricName, ReconstructionSums

    sums = ReconstructionSums()
    for x_ND in eval_batches(activations, VERIFIED_TOKENS, dictionary.d_sae):
        sums.add(x_ND, dictionary(x_ND))
    fvu = sums.values()[MetricName("fvu")] if sums.n else None
    return fvu is not None and fvu < 1


def _alias_row(alias: str, dictionary_id: str) -> pa.Table:
    row = {"alias": alias, "valid_from": datetime.now(UTC), "dictionary_id": dictionary_id}
    schema = TABLES["aliases"].schema
    return pa.Table.from_pylist([row], schema=pa.schema([schema.field(name) for name in row]))
