"""The units of trainings and the rows that trainings commit, for one training and for several together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from catalog.errors import UserError
from catalog.ledger import Claim, StageOutcome
from catalog.rows import with_constants
from catalog.store import SliceWrite
from tasks.activations.models.source import ModelConfig
from tasks.common.progress import ProgressListener
from tasks.dictionaries.config import TrainingConfig, name_of_hookpoints
from tasks.support.aliases import alias_write
from tasks.support.catalogued import find_dictionaries
from tasks.support.lineage import find_parent
from tasks.support.policies import Results, StageContext, UnitKey
from tasks.support.registration import dictionary_row, landing_facts, weights_metadata
from tasks.support.stored import shards_folder, stored_documents, weights_folder

if TYPE_CHECKING:
    from tasks.dictionaries.base import Dictionary
    from tasks.dictionaries.config import DictionaryConfig
    from tasks.dictionaries.hookpoint_activations import HookpointActivations
    from tasks.training.request import TrainingRequest
    from tasks.training.supervisor import ChildTraining

STAGE, VERSION = "train_dictionary", 3
VERIFIED_TOKENS = 4_096
"""Enough to see that saved weights are those that were trained; they are measured in full later."""


@dataclass(frozen=True)
class CachedHookpoint:
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
    reads: tuple[CachedHookpoint, ...]
    writes: tuple[CachedHookpoint, ...] | None = None
    """Empty if the dictionary reconstructs its input."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """How it is trained; not part of its identity."""
    parent: StageOutcome | None = None
    """The dictionary that it starts from, part of its identity; None for random weights."""

    @property
    def models(self) -> tuple[ModelConfig, ...]:
        """The models of all its hookpoints, each once."""
        return tuple({point.model.id: point.model for point in (*self.reads, *(self.writes or ()))}.values())

    @property
    def hookpoints_name(self) -> str:
        """Its hookpoints, for example blocks.1.mlp_in-to-mlp_out."""
        writes = None if self.writes is None else _hookpoints(self.writes)
        return name_of_hookpoints(_hookpoints(self.reads), writes)

    @property
    def alias(self) -> str:
        models = "-and-".join(model.id for model in self.models)
        return f"{models}/{self.hookpoints_name}/{self.config.name()}"

    @property
    def label(self) -> str:
        return self.alias

    @property
    def key(self) -> UnitKey:
        """The identity of this training."""
        reads, writes = ([point.facts for point in side] for side in (self.reads, self.writes or ()))
        config = {
            "dictionary": self.config.training(),
            "reads": [[point["model_id"], point["hookpoint"]] for point in reads],
            "writes": [[point["model_id"], point["hookpoint"]] for point in writes],
        }
        parents = dict.fromkeys(point.cached.fingerprint for point in (*self.reads, *(self.writes or ())))
        if self.parent is not None:
            config["init_from"] = self.parent.facts["dictionary_id"]
            parents[self.parent.fingerprint] = None
        return UnitKey(STAGE, VERSION, self.label, config, list(parents))

    @property
    def fingerprint(self) -> str:
        """The fingerprint of this training."""
        return self.key.fingerprint

    def started(self, root: Path) -> "TrainUnit":
        """This training with the dictionary of the catalogue that it starts from; itself without one.

        If the name refers to what this very training gave, it starts where that one started: a rerun finds
        the dictionary and does not train it further.

        Raises:
            UserError: when there is no such dictionary, or its weights are no start, see `find_parent`.
        """
        reads = [(point.model.id, point.hookpoint) for point in self.reads]
        writes = (
            reads if self.writes is None else [(point.model.id, point.hookpoint) for point in self.writes]
        )
        parent = find_parent(root, self.config, reads, writes)
        if parent is not None and "parent_dictionary_id" in parent.facts:
            (before,) = find_dictionaries(root, [parent.facts["parent_dictionary_id"]])
            again = replace(self, parent=before)
            if again.fingerprint == parent.fingerprint:
                return again
        return replace(self, parent=parent)


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
    from tasks.training.request import TrainingRequest

    facts = facts_of(unit, claim.fingerprint)
    labels = None
    if unit.config.reads_labels:
        labels = claim.scratch / "labels.parquet"
        pq.write_table(stored_documents(context.root, facts["corpus_id"], ["document_id", "labels"]), labels)
    return TrainingRequest(
        config=unit.config,
        reads=tuple(shards_folder(context.root, point) for point in facts["reads"]),
        writes=None
        if unit.writes is None
        else tuple(shards_folder(context.root, point) for point in facts["writes"]),
        scratch=claim.scratch,
        metadata=_metadata(unit),
        labels=labels,
        model=unit.models[0],
        parent=None if unit.parent is None else weights_folder(context.root, unit.parent.facts),
    )


def _metadata(unit: TrainUnit) -> dict[str, Any]:
    """Metadata of ``cfg.json``: where it belongs, and what it started from."""
    writes = None if unit.writes is None else _hookpoints(unit.writes)
    metadata: dict[str, Any] = {
        **weights_metadata([model.id for model in unit.models], _hookpoints(unit.reads), writes)
    }
    if unit.parent is not None:
        started = {"dictionary_id": unit.parent.facts["dictionary_id"], "optimiser": "fresh"}
        metadata["started_from"] = started
    return metadata


def trained_in_child(
    context: StageContext,
    training: TrainingConfig,
    requests: Sequence["TrainingRequest"],
    listener: ProgressListener,
) -> "Iterator[tuple[int, ChildTraining | UserError]]":
    """Train in one child process as a pipeline asks; see `train_many_in_child`."""
    from tasks.training.request import TrainingOptions
    from tasks.training.supervisor import Supervision, train_many_in_child

    options = TrainingOptions(
        device=context.device,
        precision=training.precision,
        checkpoint_seconds=context.checkpoint_seconds,
    )
    supervision = Supervision(n_processes=training.n_processes)
    return train_many_in_child(requests, options, supervision, listener)


def results_of(
    unit: TrainUnit, claim: Claim, trained: "ChildTraining", activations: "HookpointActivations"
) -> Results:
    """The rows and files of a trained dictionary."""
    facts = facts_of(unit, claim.fingerprint)
    dictionary_id = facts["dictionary_id"]
    dictionary = trained.dictionary
    row = dictionary_row(
        facts,
        dictionary,
        trained.result.weights_digest,
        origin=dictionary.origin,
        verified=_reconstructs(dictionary, activations),
    )
    slices = [
        SliceWrite("dictionaries", dictionary_id, row),
        SliceWrite("training_log", dictionary_id, with_constants(trained.log, dictionary_id=dictionary_id)),
        alias_write(unit.alias, dictionary_id),
    ]
    return Results(slices, facts, {facts["weights_uri"]: trained.folder})


def _hookpoints(points: Sequence[CachedHookpoint]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(point.hookpoint for point in points))


def facts_of(unit: TrainUnit, fingerprint: str) -> dict[str, Any]:
    """Facts for later stages."""
    reads = [point.facts for point in unit.reads]
    return landing_facts(
        unit.alias,
        fingerprint,
        reads=reads,
        writes=reads if unit.writes is None else [point.facts for point in unit.writes],
        hookpoints_name=unit.hookpoints_name,
        corpus_id=unit.reads[0].cached.facts["corpus_id"],
        parent_dictionary_id=None if unit.parent is None else str(unit.parent.facts["dictionary_id"]),
    )


def _reconstructs(dictionary: "Dictionary", activations: "HookpointActivations") -> bool:
    """Whether the weights, saved and read back, explain more of held-out targets than their mean does."""
    from tasks.dictionaries.metrics import MetricName, ReconstructionSums
    from tasks.measures.evaluation import eval_batches

    sums = ReconstructionSums()
    for values_NW in eval_batches(activations, VERIFIED_TOKENS, dictionary.d_sae):
        x_ND, y_NE = activations.split(values_NW)
        sums.add(y_NE, dictionary(x_ND))
    fvu = sums.values()[MetricName("fvu")] if sums.n else None
    return fvu is not None and fvu < 1
