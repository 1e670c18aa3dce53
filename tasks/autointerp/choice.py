"""Which dictionaries and features an explainer or scorer works on; by default all of them."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from pydantic import Field

from tasks.common.config import StrictConfig

BY_VALUE = "priority desc"


class ChoiceConfig(StrictConfig):
    """Settings by which explainers and scorers choose dictionaries and features.

    The features of a finished unit of work stay: a later run finds them, even if the queue changed.
    """

    later_fields: ClassVar[frozenset[str]] = frozenset({"where", "order", "n_features"})
    routing_fields: ClassVar[frozenset[str]] = frozenset({"dictionaries", "budget_usd", "budget_tokens"})

    dictionaries: tuple[str, ...] = Field(default=("*",), min_length=1)
    """Aliases, ids or glob patterns of the dictionaries to work on."""
    where: str | None = Field(default=None, min_length=1)
    """SQL condition over the columns of the view label_queue, for example density > 1e-5; by default all
    features that fire."""
    order: str = Field(default=BY_VALUE, min_length=1)
    """SQL order over the columns of label_queue: which features come first, and which ones n_features
    keeps."""
    n_features: int | None = Field(default=None, ge=1)
    """How many features of each dictionary at most."""

    budget_usd: float | None = Field(default=None, ge=0)
    """Most that its questions may cost in one UTC day; needs prices in the profile of its endpoint."""
    budget_tokens: int | None = Field(default=None, ge=0)
    """Most tokens, sent and received, of its questions in one UTC day."""

    def tag(self) -> str:
        """Its name and the settings that differ from the defaults; tells two in one pipeline apart."""
        raise NotImplementedError

    @property
    def endpoint_name(self) -> str | None:
        """The endpoint profile that it asks, or None if it needs no language model."""
        return getattr(self, "endpoint", None)

    @property
    def chooses(self) -> bool:
        """Whether some firing features may be left out."""
        return self.where is not None or self.n_features is not None

    def takes(self, facts: Mapping[str, Any]) -> bool:
        """Whether it works on the dictionary with these facts (``alias`` and ``dictionary_id``)."""
        names = (str(facts.get("alias", "")), str(facts["dictionary_id"]))
        return any(fnmatchcase(name, pattern) for name in names for pattern in self.dictionaries)
