"""The settings of a pipeline file: one YAML per pipeline, composed of the configurations of the stages."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from cronsim import CronSim, CronSimError
from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError, model_validator

from catalog.errors import UserError
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.corpora import CorpusConfig
from tasks.activations.models.source import ModelConfig
from tasks.autointerp.explainer import AnyExplainerConfig
from tasks.autointerp.scorer import AnyScorerConfig
from tasks.common.config import StrictConfig
from tasks.common.paths import is_file
from tasks.common.plain_files import parse_yaml, read_yaml
from tasks.dictionaries.base import AnyDictionaryConfig
from tasks.dictionaries.config import DictionaryConfig, TrainingConfig
from tasks.evaluation.suite import AnySuiteConfig
from tasks.matching.matcher import MatchConfig
from tasks.mining.config import MiningConfig
from tasks.observing.config import AssociationsConfig, CompareConfig

PIPELINES = Path(__file__).parent / "pipelines"
CRON_FIELDS = 5
_DIGITS = 10
_ANY_DAY = datetime(2024, 1, 1, tzinfo=UTC)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


def _with_bases(models: Any) -> Any:
    """Put the model that ``of`` names in its place, so that a reinitialised model stands by itself."""
    if not isinstance(models, list | tuple):
        return models
    entries = {str(entry.get("id")): entry for entry in models if isinstance(entry, Mapping)}
    resolved: list[Any] = []
    for entry in models:
        base = entry.get("of") if isinstance(entry, Mapping) else None
        if isinstance(base, str) and base not in entries:
            raise ValueError(f"model {entry.get('id')!r} is of {base!r}; models: {', '.join(entries)}")
        resolved.append({**entry, "of": entries[base]} if isinstance(base, str) else entry)
    return resolved


class ScheduleConfig(StrictConfig):
    """The schedule of a pipeline."""

    cron: str
    """Five cron fields, for example "0 2 * * *" for every night at two."""
    timezone: Literal["UTC"] = "UTC"
    """Always UTC, where every day has exactly one two o'clock."""

    @model_validator(mode="after")
    def _comes_due(self) -> "ScheduleConfig":
        if len(self.cron.split()) != CRON_FIELDS:
            raise ValueError(f"cron {self.cron!r} needs five fields, for example '0 2 * * *'")
        try:
            CronSim(self.cron, _ANY_DAY)
        except CronSimError as error:
            raise ValueError(f"cron {self.cron!r}: {error}; for example '0 2 * * *'") from None
        return self


class PipelineConfig(StrictConfig):
    """One pipeline: its texts, its models, its dictionaries, and how they are processed."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    """Name of the pipeline: the stem of its file, lower case letters, digits and dashes."""
    description: str = ""
    """Its purpose, in a sentence; shown in the Prefect UI."""
    corpus: CorpusConfig
    """Texts to read: a source and the settings of that source."""
    models: Annotated[tuple[ModelConfig, ...], BeforeValidator(_with_bases)] = Field(min_length=1)
    """Language models to analyse."""
    activations: ActivationsConfig
    """Hookpoints and settings of the activations; a model may name its own hookpoints."""
    dictionaries: tuple[AnyDictionaryConfig, ...] = Field(min_length=1)
    """Dictionaries to train: at every hookpoint of every model, or at the hookpoints that they name."""
    evaluate: Annotated[tuple[AnySuiteConfig, ...], BeforeValidator(_as_list)] = ()
    """Suites of metrics to run on every dictionary; reconstruction and fidelity are always measured."""
    training: TrainingConfig = TrainingConfig()
    """How dictionaries are trained: together or one by one, in how many processes."""
    mining: MiningConfig = MiningConfig()
    """How examples are selected."""
    associate: AssociationsConfig = AssociationsConfig()
    """Which document labels are related to features, where the corpus has labels."""
    compare: Annotated[tuple[CompareConfig, ...], BeforeValidator(_as_list)] = ()
    """What to compare for every dictionary: two values of a document label."""
    explain: Annotated[tuple[SerializeAsAny[AnyExplainerConfig], ...], BeforeValidator(_as_list)] = ()
    """Explainers to run on every dictionary."""
    score: Annotated[tuple[SerializeAsAny[AnyScorerConfig], ...], BeforeValidator(_as_list)] = ()
    """Scorers to run on the explanations that they can judge."""
    match: Annotated[tuple[MatchConfig, ...], BeforeValidator(_as_list)] = ()
    """Matchers to run on the pairs of dictionaries that they can compare."""
    schedule: ScheduleConfig | None = None
    """When the pipeline runs; without a schedule a person starts it."""

    @model_validator(mode="after")
    def _has_no_doubles(self) -> "PipelineConfig":
        for what, names in (
            ("model", [model.id for model in self.models]),
            ("dictionary", [_full_name(dictionary) for dictionary in self.dictionaries]),
            ("suite", [suite.tag() for suite in self.evaluate]),
            ("explainer", [explainer.tag() for explainer in self.explain]),
            ("scorer", [scorer.tag() for scorer in self.score]),
            ("matcher", [matcher.matcher for matcher in self.match]),
            ("comparison", [comparison.name for comparison in self.compare]),
        ):
            double = sorted({name for name in names if names.count(name) > 1})
            if double:
                raise ValueError(f"{what} {double[0]!r} is listed twice: give each its own id or settings")
        return self

    @model_validator(mode="after")
    def _firings_are_kept_where_documents_are_compared(self) -> "PipelineConfig":
        if not self.mining.document_firings.keep:
            for comparison in self.compare:
                raise ValueError(
                    f"comparison {comparison.name!r} reads document_firings: set "
                    "mining.document_firings.keep to true"
                )
        return self

    @model_validator(mode="after")
    def _dictionaries_find_their_hookpoints(self) -> "PipelineConfig":
        known = {model.id: self.activations.for_model(model).hookpoints for model in self.models}
        for dictionary in self.dictionaries:
            for model in dictionary.models or ():
                if model not in known:
                    raise ValueError(
                        f"dictionary {dictionary.name()!r} reads model {model!r}; models: {', '.join(known)}"
                    )
            wanted, of = set(dictionary.hookpoints), dictionary.models or tuple(known)
            lacking = [", ".join(sorted(wanted.difference(known[model]))) for model in of]
            if all(lacking) or (dictionary.models and any(lacking)):
                raise ValueError(
                    f"dictionary {dictionary.name()!r} needs {max(lacking)}, which is not cached: add it to "
                    "the hookpoints of activations or of the model"
                )
        return self


def _full_name(dictionary: DictionaryConfig) -> str:
    return " ".join([*(dictionary.models or ()), dictionary.place, dictionary.name()]).strip()


def pipeline_names() -> list[str]:
    """Pipelines that come with featlas."""
    return sorted(path.stem for path in PIPELINES.glob("*.yaml"))


def pipeline_path(name_or_path: str) -> Path:
    """The file of a pipeline given by name or path.

    Raises:
        UserError: when there is none, naming those there are.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path).absolute()
        if is_file(path):
            return path
        raise UserError(f"there is no pipeline file {name_or_path}: check the path")
    if name_or_path in pipeline_names():
        return PIPELINES / f"{name_or_path}.yaml"
    raise UserError(
        f"there is no pipeline {name_or_path!r}: name one of {', '.join(pipeline_names())}, "
        "or give the path of a .yaml file"
    )


def load_pipeline(name_or_path: str, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Read a pipeline file, apply ``path=value`` overrides, check everything.

    UserError: one sentence for the first error, naming file, place and known names.
        UserError: one sentence for the first thing that is wrong, naming file, place and known names.
    """
    path = pipeline_path(name_or_path)
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"pipeline file {path} must hold a mapping that begins with name: {path.stem}")
    for override in overrides:
        set_value(values, override)
    try:
        config = PipelineConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(f"pipeline {path.name}: {first_fault(error)}") from None
    if config.name != path.stem:
        raise UserError(f"pipeline {path}: name {config.name!r} must be the stem of the file, {path.stem!r}")
    return config


def set_value(values: dict[str, Any], override: str) -> None:
    """Apply one override such as ``dictionaries.0.k=16``; the value is read as YAML.

    Raises:
        UserError: when the override has another form or names an unknown setting.
    """
    place, separator, text = override.partition("=")
    keys = place.split(".")
    if not separator or not all(keys):
        raise UserError(f"--set {override!r} is not of the form path=value, for example dictionaries.0.k=16")
    value = parse_yaml(text, f"the value of --set {place}")
    target: Any = values
    for depth, key in enumerate(keys):
        is_last = depth == len(keys) - 1
        where = ".".join(keys[: depth + 1])
        if isinstance(target, list):
            if not (key.isascii() and key.isdigit() and len(key) < _DIGITS and int(key) < len(target)):
                raise UserError(f"--set {override!r}: there is no {where!r} in the pipeline")
            if is_last:
                target[int(key)] = value
            target = target[int(key)]
        elif isinstance(target, dict):
            if is_last:
                target[key] = value
            target = target.setdefault(key, {})
        else:
            raise UserError(f"--set {override!r}: {'.'.join(keys[:depth])!r} holds no settings to change")


def first_fault(error: ValidationError) -> str:
    """The first error of a validation as one clause: its place, then what is wrong."""
    place: list[str] = []
    while True:
        fault = error.errors(include_url=False)[0]
        place += [str(part) for part in fault["loc"]]
        cause = fault.get("ctx", {}).get("error")
        if not isinstance(cause, ValidationError):
            break
        error = cause
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "missing":
        message = "is missing and has no default"
    return f"{'.'.join(place)}: {message}" if place else message
