"""Entries of a pipeline file that name things: corpora, dictionaries of the catalogue, sets to observe."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SerializeAsAny, TypeAdapter, model_validator

from tasks.activations.corpora import CorpusConfig
from tasks.activations.hookpoint import HookpointText
from tasks.common.config import StrictConfig
from tasks.dictionaries.base import AnyDictionaryConfig
from tasks.dictionaries.config import DictionaryConfig, EvaluationConfig

HOME_CORPUS = "main"
"""Id of the corpus that the section ``corpus`` describes."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class NamedCorpus(StrictConfig):
    """A corpus of the pipeline under the id that ``observe`` and ``compare`` name."""

    id: Name
    """Letters, digits, dots and dashes; unique in the pipeline."""
    texts: CorpusConfig
    """Its source, and the settings of that source."""


class UsedDictionary(StrictConfig):
    """Dictionaries of the catalogue, trained by any pipeline or imported."""

    use: str = Field(min_length=1, max_length=400)
    """Alias, id, or a pattern with ``*`` and ``?`` that aliases or ids match."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How they are measured."""


class BudgetConfig(StrictConfig):
    """What a run may use; then it ends, and the next run goes on."""

    minutes: float | None = Field(default=None, gt=0)
    """Minutes after which it starts no further stage."""
    disk_gb: float | None = Field(default=None, gt=0)
    """Growth of the catalogue in 10^9 bytes after which it starts no further stage."""
    usd: float | None = Field(default=None, gt=0)
    """Most that language models may cost; then stages that ask one stop, and the others go on."""

    @model_validator(mode="after")
    def _limits_something(self) -> "BudgetConfig":
        if not self.model_dump(exclude_none=True):
            raise ValueError("a budget needs minutes, disk_gb or usd, for example {minutes: 240}")
        return self


class ObserveConfig(StrictConfig):
    """A further set of activations on which the dictionaries of a pipeline are looked at."""

    model: str | None = None
    """Model of the pipeline; default: the model that the dictionary reads."""
    corpus: str | None = None
    """Corpus of the pipeline by its id; default: the corpus on which the pipeline trains."""
    hookpoint: HookpointText | None = None
    """Hookpoint to read; default: the hookpoints of the dictionary."""

    def tag(self) -> str:
        """The settings that are given, for messages."""
        given = self.model_dump(exclude_none=True)
        return ", ".join(f"{name} {value}" for name, value in given.items()) or "nothing"


def _named_corpus(value: Any) -> Any:
    """Split an entry of ``corpora`` into its id and the settings of its source."""
    if not isinstance(value, Mapping) or "texts" in value:
        return value
    if "id" not in value:
        raise ValueError("an entry of corpora needs an id, like {id: reviews, source: text, path: ...}")
    return {"id": value["id"], "texts": {name: value[name] for name in value if name != "id"}}


def _used_or_trained(value: Any) -> Any:
    if isinstance(value, Mapping) and "use" in value:
        return UsedDictionary.model_validate(value)
    return _TRAINED.validate_python(value)


_TRAINED: TypeAdapter[DictionaryConfig] = TypeAdapter(AnyDictionaryConfig)
AnyCorpus = Annotated[NamedCorpus, BeforeValidator(_named_corpus)]
AnyDictionary = Annotated[
    SerializeAsAny[UsedDictionary | DictionaryConfig], BeforeValidator(_used_or_trained)
]
"""A dictionary to train, or dictionaries of the catalogue to use as they are."""
