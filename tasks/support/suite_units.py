"""The unit of a suite, and how its subject is read from the catalogue."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.connection import read
from catalog.ledger import StageOutcome
from catalog.queries import labelled_features
from tasks.activations.models.source import ModelConfig
from tasks.evaluation.suite import Subject, SuiteConfig, suite_of
from tasks.support.layers import LayerSet, layer_sets, open_layers
from tasks.support.policies import StageContext, UnitKey
from tasks.support.stored import evidence_ids, evidence_label, open_sets, stored_dictionary, stored_documents

if TYPE_CHECKING:
    from tasks.evaluation.suite import Suite

STAGE, VERSION = "evaluate_suite", 2


@dataclass(frozen=True)
class SuiteUnit:
    """A dictionary, one suite, and the dictionaries that differ from it only in the seed."""

    config: SuiteConfig
    models: tuple[ModelConfig, ...]
    trained: StageOutcome
    siblings: tuple[StageOutcome, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.config.tag()} {evidence_label(self.trained.facts)}"


@dataclass(frozen=True)
class SuiteRequest:
    """A unit with what its suite reads of the catalogue besides the dictionary and its activations."""

    context: StageContext
    unit: SuiteUnit

    @property
    def suite(self) -> "Suite":
        return suite_of(self.unit.config)

    @property
    def siblings(self) -> tuple[StageOutcome, ...]:
        return self.unit.siblings if "siblings" in self.suite.reads else ()

    @cached_property
    def layers(self) -> list[LayerSet]:
        """The sets of further hookpoints that the suite reads; part of what identifies the unit."""
        return layer_sets(self.context.root, self.unit.trained.facts) if "layers" in self.suite.reads else []

    @cached_property
    def labelled(self) -> frozenset[int]:
        """The features whose label beats chance now; part of what identifies the unit."""
        if "labelled" not in self.suite.reads:
            return frozenset()
        query = labelled_features(**evidence_ids(self.unit.trained.facts))
        rows = read(query.read, self.context.root)
        return frozenset(rows["feature_index"].to_pylist())

    @property
    def key(self) -> UnitKey:
        """The identity of the measurement."""
        unit = self.unit
        parents = [unit.trained.fingerprint, *sorted(sibling.fingerprint for sibling in self.siblings)]
        config: dict[str, Any] = {**unit.config.canonical(), "suite_version": self.suite.version}
        if self.layers:
            config["layers"] = [one.activation_set_id for one in self.layers]
        if "labelled" in self.suite.reads:
            config["labelled"] = hashlib.sha256(str(sorted(self.labelled)).encode()).hexdigest()
        return UnitKey(STAGE, VERSION, unit.label, config, parents)

    def subject(self, scratch: Path) -> Subject:
        """The dictionary with the data that its suite may use."""
        context, facts = self.context, self.unit.trained.facts
        activations = open_sets(context.root, facts, self.unit.models, context.device)
        columns = self.suite.document_columns
        documents = stored_documents(context.root, facts["corpus_id"], columns) if columns else None
        dictionary, *others = (
            stored_dictionary(context.root, one.facts, context.device)
            for one in (self.unit.trained, *self.siblings)
        )
        layers = open_layers(context.root, self.layers)
        return Subject.of(dictionary, activations, scratch, documents, others, layers, self.labelled)
