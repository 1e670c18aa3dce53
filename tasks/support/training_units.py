"""The units of trainings and the rows that trainings commit, for one training and for several together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from catalog.ledger import Claim, StageOutcome
from catalog.rows import with_constants
from catalog.store import SliceWrite
from tasks.activations.models.source import ModelConfig
from tasks.dictionaries.config import TrainingConfig, place_name
from tasks.support.aliases import alias_write
from tasks.support.policies import Results, StageContext, UnitKey
from tasks.support.registration import dictionary_row, landing_facts, weights_metadata
from tasks.support.stored import shards_folder, stored_documents

if TYPE_CHECKING:
    from tasks.dictionaries.base import Dictionary
    from tasks.dictionaries.config import DictionaryConfig
    from tasks.dictionaries.sites import SiteActivations
    from tasks.training.child import TrainingRequest
    from tasks.training.supervisor import ChildOptions, ChildTraining

STAGE, VERSION = "train_dictionary", 3
VERIFIED_TOKENS = 4_096
"""Enough to see that saved weights are those that were trained; they are measured in full later."""


@dataclass(frozen=True)
class Site:
    """A hookpoint of a caching run."""

    cached: StageOutcome
    hookpoint: str
    model: ModelConfig

    @property
    def facts(self) -> dict[str, str]:
        """What later stages need to find it: model_id, hookpoint, activation_set_id, uri."""
        return {
            "model_id": self.model.id,
            "hookpoint": self.hookpoint,
            **self.cached.facts["activation_sets"][self.hookpoint],
        }


@dataclass(frozen=True)
class TrainUnit:
    """A dictionary to train on hookpoints of one caching run, or of the runs of several models."""

    config: "DictionaryConfig"
    reads: tuple[Site, ...]
    writes: tuple[Site, ...] | None = None
    """Empty if the dictionary reconstructs its input."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """How it is trained; not part of its identity."""

    @property
    def models(self) -> tuple[ModelConfig, ...]:
        """The models of all its hookpoints, each once."""
        return tuple({site.model.id: site.model for site in (*self.reads, *(self.writes or ()))}.values())

    @property
    def place(self) -> str:
        """Its hookpoints, for example blocks.1.mlp_in-to-mlp_out."""
        writes = None if self.writes is None else _hookpoints(self.writes)
        return place_name(_hookpoints(self.reads), writes)

    @property
    def alias(self) -> str:
        models = "-and-".join(model.id for model in self.models)
        return f"{models}/{self.place}/{self.config.name()}"

    @property
    def label(self) -> str:
        return self.alias

    @property
    def key(self) -> UnitKey:
        """The identity of this training."""
        sites = [site.facts for site in self.reads], [site.facts for site in self.writes or ()]
        config = {
            "dictionary": self.config.training(),
            "reads": [[site["model_id"], site["hookpoint"]] for site in sites[0]],
            "writes": [[site["model_id"], site["hookpoint"]] for site in sites[1]],
        }
        cached = dict.fromkeys(site.cached.fingerprint for site in (*self.reads, *(self.writes or ())))
        return UnitKey(STAGE, VERSION, self.label, config, list(cached))


@dataclass(frozen=True)
class TrainGroup:
    """Dictionaries of one model that may be trained in one process."""

    label: str
    units: tuple[TrainUnit, ...]

    @property
    def is_wanted(self) -> bool:
        """Whether several trainings share data, and the pipeline wants to share it."""
        return len(self.units) > 1 and self.units[0].training.together


def request_for(context: StageContext, unit: TrainUnit, claim: Claim) -> "TrainingRequest":
    """The request to a training child."""
    from tasks.training.supervisor import training_request

    facts = facts_of(unit, claim.fingerprint)
    labels = None
    if unit.config.reads_labels:
        labels = claim.scratch / "labels.parquet"
        pq.write_table(stored_documents(context.root, facts["corpus_id"], ["document_id", "labels"]), labels)
    return training_request(
        unit.config,
        [shards_folder(context.root, site) for site in facts["reads"]],
        claim.scratch,
        writes=None
        if unit.writes is None
        else [shards_folder(context.root, site) for site in facts["writes"]],
        metadata=weights_metadata(
            [model.id for model in unit.models],
            _hookpoints(unit.reads),
            None if unit.writes is None else _hookpoints(unit.writes),
        ),
        labels=labels,
        model=unit.models[0],
    )


def options_for(context: StageContext, unit: TrainUnit) -> "ChildOptions":
    from tasks.training.supervisor import ChildOptions

    training = unit.training
    return ChildOptions(
        device=context.device,
        precision=training.precision,
        n_processes=training.n_processes,
        checkpoint_seconds=context.checkpoint_seconds,
    )


def results_of(unit: TrainUnit, claim: Claim, trained: "ChildTraining", sites: "SiteActivations") -> Results:
    """The rows and files of a trained dictionary."""
    facts = facts_of(unit, claim.fingerprint)
    dictionary_id = facts["dictionary_id"]
    dictionary = trained.dictionary
    row = dictionary_row(
        facts,
        dictionary,
        trained.result.weights_digest,
        origin=dictionary.origin,
        verified=_reconstructs(dictionary, sites),
    )
    slices = [
        SliceWrite("dictionaries", dictionary_id, row),
        SliceWrite("training_log", dictionary_id, with_constants(trained.log, dictionary_id=dictionary_id)),
        alias_write(unit.alias, dictionary_id),
    ]
    return Results(slices, facts, {facts["weights_uri"]: trained.folder})


def _hookpoints(sites: Sequence[Site]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(site.hookpoint for site in sites))


def facts_of(unit: TrainUnit, fingerprint: str) -> dict[str, Any]:
    """Facts for later stages."""
    reads = [site.facts for site in unit.reads]
    return landing_facts(
        unit.alias,
        fingerprint,
        reads=reads,
        writes=reads if unit.writes is None else [site.facts for site in unit.writes],
        place=unit.place,
        corpus_id=unit.reads[0].cached.facts["corpus_id"],
    )


def _reconstructs(dictionary: "Dictionary", sites: "SiteActivations") -> bool:
    """Whether the weights, saved and read back, explain more of held-out targets than their mean does."""
    from tasks.dictionaries.metrics import MetricName, ReconstructionSums
    from tasks.measures.evaluation import eval_batches

    sums = ReconstructionSums()
    for values_NW in eval_batches(sites, VERIFIED_TOKENS, dictionary.d_sae):
        x_ND, y_NE = sites.split(values_NW)
        sums.add(y_NE, dictionary(x_ND))
    fvu = sums.values()[MetricName("fvu")] if sums.n else None
    return fvu is not None and fvu < 1
