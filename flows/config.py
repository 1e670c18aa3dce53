"""The settings of a pipeline file: one YAML per pipeline, composed of the configurations of the stages."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from cronsim import CronSim, CronSimError
from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError, model_validator

from catalog.errors import UserError
from catalog.label_queue import check_choice
from flows.config_comparisons import check_comparisons, check_firings
from flows.config_entries import (
    HOME_CORPUS,
    AnyCorpus,
    AnyDictionary,
    BudgetConfig,
    NamedCorpus,
    ObserveConfig,
    UsedDictionary,
)
from flows.overrides import first_fault, set_value
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.corpora import CorpusConfig
from tasks.activations.models.source import ModelConfig
from tasks.autointerp.choice import BY_VALUE
from tasks.autointerp.explainer import AnyExplainerConfig
from tasks.autointerp.scorer import AnyScorerConfig
from tasks.common.config import StrictConfig
from tasks.common.paths import is_file
from tasks.common.plain_files import read_yaml
from tasks.dictionaries.config import DictionaryConfig, TrainingConfig
from tasks.evaluation.suite import AnySuiteConfig
from tasks.matching.matcher import MatchConfig
from tasks.mining.config import MiningConfig
from tasks.observing.config import AssociationsConfig, CompareConfig

PIPELINES = Path(__file__).parent / "pipelines"
CRON_FIELDS = 5
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

    later_fields: ClassVar[frozenset[str]] = frozenset({"budget"})

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    """Name of the pipeline: the stem of its file, lower case letters, digits and dashes."""
    description: str = ""
    """Its purpose, in a sentence; shown in the Prefect UI."""
    corpus: CorpusConfig | None = None
    """Texts to train on: a source and the settings of that source; its id is main."""
    corpora: tuple[AnyCorpus, ...] = ()
    """Further texts, each with an id; without ``corpus`` the first is the one to train on."""
    models: Annotated[tuple[ModelConfig, ...], BeforeValidator(_with_bases)] = Field(min_length=1)
    """Language models to analyse."""
    activations: ActivationsConfig
    """Hookpoints and settings of the activations; a model may name its own hookpoints."""
    dictionaries: tuple[AnyDictionary, ...] = Field(min_length=1)
    """Dictionaries to train, at every hookpoint of every model or where they say; or to use as they are."""
    observe: Annotated[tuple[ObserveConfig, ...], BeforeValidator(_as_list)] = ()
    """Further sets of activations on which every dictionary is looked at."""
    evaluate: Annotated[tuple[AnySuiteConfig, ...], BeforeValidator(_as_list)] = ()
    """Suites of metrics to run on every dictionary; reconstruction and fidelity are always measured."""
    training: TrainingConfig = TrainingConfig()
    """How dictionaries are trained: together or one by one, in how many processes."""
    mining: MiningConfig = MiningConfig()
    """How examples are selected."""
    associate: AssociationsConfig = AssociationsConfig()
    """Which document labels are related to features, where the corpus has labels."""
    compare: Annotated[tuple[CompareConfig, ...], BeforeValidator(_as_list)] = ()
    """What to compare for every dictionary: two models, two corpora, or two values of a document label."""
    explain: Annotated[tuple[SerializeAsAny[AnyExplainerConfig], ...], BeforeValidator(_as_list)] = ()
    """Explainers to run on every dictionary."""
    score: Annotated[tuple[SerializeAsAny[AnyScorerConfig], ...], BeforeValidator(_as_list)] = ()
    """Scorers to run on the explanations that they can judge."""
    match: Annotated[tuple[MatchConfig, ...], BeforeValidator(_as_list)] = ()
    """Matchers to run on the pairs of dictionaries that they can compare."""
    budget: BudgetConfig | None = None
    """What one run may use: minutes, disk and money; the next run continues."""
    schedule: ScheduleConfig | None = None
    """When the pipeline runs; without a schedule a person starts it."""

    @model_validator(mode="before")
    @classmethod
    def _has_texts(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and not values.get("corpus") and not values.get("corpora"):
            raise ValueError("corpus is missing and has no default")
        return values

    @property
    def all_corpora(self) -> tuple[NamedCorpus, ...]:
        """Every corpus; the first is the one on which dictionaries are trained."""
        home = () if self.corpus is None else (NamedCorpus(id=HOME_CORPUS, texts=self.corpus),)
        return (*home, *self.corpora)

    @property
    def trained(self) -> tuple[DictionaryConfig, ...]:
        """The dictionaries to train."""
        return tuple(one for one in self.dictionaries if isinstance(one, DictionaryConfig))

    @property
    def used(self) -> tuple[UsedDictionary, ...]:
        """The entries that name dictionaries of the catalogue."""
        return tuple(one for one in self.dictionaries if isinstance(one, UsedDictionary))

    def with_sections(self, **sections: Any) -> "PipelineConfig":
        """The pipeline with some sections replaced, checked as a whole.

        Raises:
            UserError: one sentence for the first thing that is wrong.
        """
        own = {name: getattr(self, name) for name in type(self).model_fields}
        try:
            return type(self).model_validate({**own, **sections})
        except ValidationError as error:
            raise UserError(f"pipeline {self.name!r}: {first_fault(error)}") from None

    def trains_on(self, model: ModelConfig) -> bool:
        """Whether a dictionary of the pipeline is trained on a model."""
        return any(one.trains_on(model.id) or model.id in (one.models or ()) for one in self.trained)

    @model_validator(mode="after")
    def _has_no_doubles(self) -> "PipelineConfig":
        for what, names in (
            ("model", [model.id for model in self.models]),
            ("corpus", [corpus.id for corpus in self.all_corpora]),
            ("dictionary", [_full_name(dictionary) for dictionary in self.trained]),
            ("use", [dictionary.use for dictionary in self.used]),
            ("observed set", [entry.tag() for entry in self.observe]),
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
    def _choices_are_sql(self) -> "PipelineConfig":
        for one in (*self.explain, *self.score):
            if one.where is not None or one.order != BY_VALUE:
                check_choice(one.where, one.order)
        return self

    @model_validator(mode="after")
    def _comparisons_have_two_sides(self) -> "PipelineConfig":
        check_comparisons(self.compare, self.observe, [m.id for m in self.models], self.all_corpora)
        if self.compare and not self.mining.document_firings.keep:
            check_firings(self.compare)
        return self

    @model_validator(mode="after")
    def _dictionaries_find_their_hookpoints(self) -> "PipelineConfig":
        known = {model.id: self.activations.for_model(model).hookpoints for model in self.models}
        for dictionary in self.trained:
            for model in (*(dictionary.models or ()), *(dictionary.train_on or ())):
                if model not in known:
                    raise ValueError(
                        f"dictionary {dictionary.name()!r} reads model {model!r}; models: {', '.join(known)}"
                    )
            wanted = set(dictionary.hookpoints)
            of = dictionary.models or dictionary.train_on or tuple(known)
            lacking = [", ".join(sorted(wanted.difference(known[model]))) for model in of]
            if all(lacking) or (dictionary.models and any(lacking)):
                raise ValueError(
                    f"dictionary {dictionary.name()!r} needs {max(lacking)}, which is not cached: add it to "
                    "the hookpoints of activations or of the model"
                )
        return self

    @model_validator(mode="after")
    def _observed_sets_are_known(self) -> "PipelineConfig":
        known = {model.id: self.activations.for_model(model).hookpoints for model in self.models}
        corpora = [corpus.id for corpus in self.all_corpora]
        for entry in self.observe:
            if entry == ObserveConfig():
                raise ValueError("an entry of observe needs a model, a corpus or a hookpoint")
            if entry.model is not None and entry.model not in known:
                raise ValueError(f"observe names model {entry.model!r}; models: {', '.join(known)}")
            if entry.corpus is not None and entry.corpus not in corpora:
                raise ValueError(f"observe names corpus {entry.corpus!r}; corpora: {', '.join(corpora)}")
            cached = known.get(str(entry.model), [name for names in known.values() for name in names])
            if entry.hookpoint is not None and entry.hookpoint not in cached:
                raise ValueError(
                    f"observe needs {entry.hookpoint}, which is not cached: add it to the hookpoints of "
                    "activations or of the model"
                )
        return self


def _full_name(dictionary: DictionaryConfig) -> str:
    return " ".join([*(dictionary.models or ()), dictionary.hookpoints_name, dictionary.name()]).strip()


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

    Raises:
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
