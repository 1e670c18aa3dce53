"""The role of a suite: input a dictionary and its activations, output metric values with their controls."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Self

import pyarrow as pa
from pydantic import BeforeValidator, Field, SerializeAsAny

from catalog.schemas import TABLES, Split
from tasks.common.bootstrap import Interval
from tasks.common.config import StrictConfig
from tasks.common.progress import ProgressListener, silent
from tasks.common.registry import Registry

if TYPE_CHECKING:
    from tasks.dictionaries.base import Dictionary
    from tasks.dictionaries.hookpoint_activations import HookpointActivations
    from tasks.dictionaries.stream import ActivationReader


_INTERVAL = ("ci_low", "ci_high", "n_documents")
_COLUMNS = ("metric", "variant", "split", "value", "n", "metric_version", "control", "note", *_INTERVAL)


class SuiteConfig(StrictConfig):
    """Settings of every suite."""

    suite: str
    """Name of the suite."""
    seed: int = Field(default=0, ge=0)
    """Seed of the random dictionary and of the shuffled labels that serve as controls."""

    def tag(self) -> str:
        """A key that distinguishes the rows of this suite from others in one pipeline."""
        return self.suite


class Layer(NamedTuple):
    """Activations of one hookpoint, with the tokens of the subject."""

    hookpoint: str
    activations: "ActivationReader"


@dataclass(frozen=True)
class Subject:
    """The dictionary to measure, and the data that a suite may use."""

    dictionary: "Dictionary"
    """The dictionary with folded normalisation, on the device where it runs."""
    activations: "HookpointActivations"
    """Activations of its hookpoints, in context if it reads context."""
    scratch: Path
    """An empty folder for files of a suite."""
    texts: Sequence[str] = ()
    """Text of every document, in the order in which the activations count documents."""
    labels: Sequence[Mapping[str, str]] = ()
    """Label columns of every document, in the same order."""
    special_token_ids: frozenset[int] = frozenset()
    """Tokens of the chat template and other special tokens."""
    siblings: Sequence["Dictionary"] = ()
    """Dictionaries that differ from this one only in the seed."""
    layers: Sequence[Layer] = ()
    """Every cached hookpoint of the model, the dictionary's own too, in the order of the model."""
    labelled: frozenset[int] = frozenset()
    """Features whose label beats chance."""

    @classmethod
    def of(
        cls,
        dictionary: "Dictionary",
        activations: "HookpointActivations",
        scratch: Path,
        documents: pa.Table | None,
        siblings: Sequence["Dictionary"] = (),
        layers: Sequence[Layer] = (),
        labelled: frozenset[int] = frozenset(),
    ) -> Self:
        """A dictionary on its activation sets.

        Args:
            dictionary: What is measured.
            activations: The activation sets it reads and writes.
            scratch: An empty folder.
            documents: The columns of `Suite.document_columns`; None where the suite reads no document.
            siblings: See the field.
            layers: See the field.
            labelled: See the field.
        """
        texts: list[str] = []
        labels: list[Any] = []
        if documents is not None:
            texts = documents["text"].to_pylist() if "text" in documents.column_names else []
            labels = documents["labels"].to_pylist()
        special = getattr(activations.reads[0], "meta", {}).get("special_token_ids") or ()
        return cls(
            dictionary=dictionary,
            activations=activations.as_read_by(dictionary),
            scratch=scratch,
            texts=texts,
            labels=[{k: v for k, v in row or [] if v is not None} for row in labels],
            special_token_ids=frozenset(special),
            siblings=siblings,
            layers=layers,
            labelled=labelled,
        )


@dataclass(frozen=True)
class Metric:
    """One value with its control; ``value`` is None only with the reason in ``note``."""

    metric: str
    variant: str
    value: float | None
    n: int
    """Number of tokens, documents or features it was measured on; the suite's README says which."""
    control: Mapping[str, float | None] = field(default_factory=dict)
    note: str | None = None
    split: Split = "eval"
    interval: Interval | None = None
    """None if the definition has none."""
    unit: str = "documents"
    """The units resampled for the interval."""


class Unmeasurable(Exception):
    """A suite does not apply here; the sentence gives the reason and becomes the note of the rows."""


class Suite(ABC):
    """Base of all suites; a subclass measures."""

    Config: ClassVar[type[SuiteConfig]]
    purpose: ClassVar[str]
    """What it does, as the end of a sentence that begins with its name."""
    version: ClassVar[int] = 1
    """Version of the definitions; raised when a value changes its meaning."""
    reads: ClassVar[frozenset[str]] = frozenset()
    """Further fields of the subject that it needs: texts, labels, siblings, layers, labelled."""

    def __init__(self, config: SuiteConfig) -> None:
        self.config = config

    @property
    def document_columns(self) -> list[str]:
        """Columns of the documents that the suite reads; none where it reads no document."""
        if not self.reads & {"texts", "labels"}:
            return []
        return ["document_id", *(["text"] if "texts" in self.reads else []), "labels"]

    @abstractmethod
    def headline(self) -> tuple[tuple[str, str], ...]:
        """Metric and variant of the values that are null with the reason if nothing can be measured."""

    @abstractmethod
    def measure(self, subject: Subject, listener: ProgressListener = silent) -> list[Metric]:
        """All values.

        Raises:
            Unmeasurable: when the suite does not apply to this dictionary or these activations.
            UserError: for a setting that does not fit, such as an unknown label column.
        """


class FeatureSuite(Suite):
    """A suite that also writes rows about single features, to a table of their own."""

    table: ClassVar[str]
    """The table; its rows come without the ids of dictionary and activation set."""

    @abstractmethod
    def measure_features(
        self, subject: Subject, listener: ProgressListener = silent
    ) -> tuple[list[Metric], pa.Table]:
        """All values of the dictionary, and the rows about its features; raises as ``measure`` does."""

    def measure(self, subject: Subject, listener: ProgressListener = silent) -> list[Metric]:
        return self.measure_features(subject, listener)[0]


SUITES: Registry[Suite] = Registry("suite", "tasks.evaluation.suites")
AnySuiteConfig = Annotated[SerializeAsAny[SuiteConfig], BeforeValidator(SUITES.resolve_config("suite"))]
"""Field type of a pipeline: a mapping becomes the configuration of the suite that it names."""


def suite_of(config: SuiteConfig) -> Suite:
    """The suite that a configuration names."""
    return SUITES[config.suite](config)


class Measured(NamedTuple):
    """What a suite found, without the ids of dictionary and activation set."""

    metrics: pa.Table
    """Rows of ``dictionary_metrics``."""
    features: pa.Table | None
    """Rows of the suite's own table; None where it has none or nothing could be measured."""


def run_suite(subject: Subject, config: SuiteConfig, listener: ProgressListener = silent) -> Measured:
    """Measure with one suite.

    Raises:
        UserError: for a setting that does not fit the subject.
    """
    suite, features = suite_of(config), None
    try:
        if isinstance(suite, FeatureSuite):
            metrics, features = suite.measure_features(subject, listener)
        else:
            metrics = suite.measure(subject, listener)
    except Unmeasurable as reason:
        metrics = [Metric(name, variant, None, 0, note=str(reason)) for name, variant in suite.headline()]
    return Measured(metric_table(metrics, suite.version), features)


def metric_table(metrics: Sequence[Metric], version: int) -> pa.Table:
    """Rows of ``dictionary_metrics`` without its ids; controls that are None are left out."""
    spec = TABLES["dictionary_metrics"]
    schema = pa.schema([pa.field(name, spec.column(name).type) for name in _COLUMNS])
    return pa.Table.from_pylist([_row(metric, version) for metric in metrics], schema=schema)


def _row(metric: Metric, version: int) -> dict[str, Any]:
    if metric.value is None and not metric.note:
        raise ValueError(f"{metric.metric} {metric.variant} is null without a reason")
    control = {name: value for name, value in metric.control.items() if value is not None}
    interval = metric.interval or Interval(None, None, 0)
    of_documents = metric.interval is not None and metric.unit == "documents"
    return {
        "metric": metric.metric,
        "variant": metric.variant,
        "split": metric.split,
        "value": metric.value,
        "n": metric.n,
        "metric_version": version,
        "control": json.dumps(control, allow_nan=False) if control else None,
        "note": _note(metric),
        "ci_low": interval.low,
        "ci_high": interval.high,
        "n_documents": interval.n_documents if of_documents else None,
    }


def _note(metric: Metric) -> str | None:
    """Its own note, and the units of the interval if they are not documents."""
    parts = [metric.note]
    if metric.interval is not None and metric.interval.low is not None and metric.unit != "documents":
        parts.append(f"interval over {metric.interval.n_documents} {metric.unit}")
    return "; ".join(filter(None, parts)) or None
