"""Judges that know nothing, and one that knows all, answering on simulated items: what a null looks like.

Shapes: F features, I items.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from catalog.schemas import SILENT_BANDS
from tasks.autointerp.chance import with_chance
from tasks.autointerp.items import Items, Judged
from tasks.autointerp.measures import RANKING, YES_NO, Measure, score_rows
from tasks.autointerp.metrics import UNANSWERED, Answers, Values

Sizes = tuple[int, int, int]
SIZES: Sizes = (20, 10, 10)
"""Firing, random and neighbour contexts."""
Judge = Callable[["Feature", bool], Answers]
"""Answers (I,) to the items of a feature; the flag says whether the explanation is its own."""


class Feature:
    """One feature's items in random order, and what a judge may see of them."""

    def __init__(self, generator: np.random.Generator, sizes: Sizes = SIZES) -> None:
        kinds = [kind for kind, n in zip(("firing", *SILENT_BANDS), sizes, strict=True) for _ in range(n)]
        kind_I = generator.permutation(np.asarray(kinds, object))
        self.generator = generator
        self.items = Items(np.arange(len(kind_I)), kind_I == "firing", kind_I)
        look = generator.normal(0.0, 0.6)
        self.looks_I = generator.normal(0.0, 1.0, len(kind_I)) + look * self.items.truth_I
        """A property of the text, such as its length, that tells the classes apart for some features."""

    def coin(self, share: float = 0.5) -> Answers:
        """Yes with a fixed probability, whatever is shown."""
        return (self.generator.random(len(self.items)) < share).astype(np.int8)


def constant(value: int) -> Judge:
    """Always the same answer."""
    return lambda feature, own: np.full(len(feature.items), value, np.int8)


JUDGES: dict[str, Judge] = {
    "coin": lambda feature, own: feature.coin(),
    "sceptic": lambda feature, own: feature.coin(0.15),
    "yes": constant(1),
    "no": constant(0),
    "alternating": lambda feature, own: (np.arange(len(feature.items)) % 2).astype(np.int8),
    "looks": lambda feature, own: (feature.looks_I > 0).astype(np.int8),
    "noisy looks": lambda feature, own: (
        feature.looks_I + feature.generator.normal(0, 1, len(feature.items)) > 0
    ).astype(np.int8),
}
"""None of them reads the explanation; ``looks`` goes by the text alone, always or with noise."""


def oracle(feature: Feature, own: bool) -> Answers:
    """Right about the feature's own explanation, no to any other."""
    return (feature.items.truth_I & own).astype(np.int8)


Ranker = Callable[["Feature", bool], Values]
"""Margins (I,) of the items of a feature; the flag says whether the explanation is its own."""
RANKERS: dict[str, Ranker] = {
    "coin": lambda feature, own: feature.generator.normal(0, 1, len(feature.items)),
    "constant": lambda feature, own: np.zeros(len(feature.items)),
    "place": lambda feature, own: np.arange(len(feature.items)) % 5.0,
    "looks": lambda feature, own: feature.looks_I,
    "rounded looks": lambda feature, own: np.round(feature.looks_I),
    "noisy looks": lambda feature, own: feature.looks_I + feature.generator.normal(0, 1, len(feature.items)),
}
"""The same for judges whose probabilities are known."""


def ranked_rows_of(
    ranker: Ranker, n_features: int, *, shuffles: int = 1, seed: int = 0
) -> list[dict[str, Any]]:
    """The rows of AUROC of a dictionary about whose explanations the ranker was asked."""
    generator = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for index in range(n_features):
        feature = Feature(generator)
        none = np.full(len(feature.items), UNANSWERED, np.int8)
        own, *donors = (
            Judged(none, margin_I=ranker(feature, i == 0), by="measure") for i in range(shuffles + 1)
        )
        found = score_rows(feature.items, own, donors, (RANKING,))
        rows += [{"feature_index": index, **row} for row in found]
    return with_chance(rows)


def rows_of(
    judge: Judge,
    n_features: int,
    *,
    shuffles: int = 1,
    seed: int = 0,
    sizes: Sizes = SIZES,
    measures: Sequence[Measure] = (YES_NO,),
) -> list[dict[str, Any]]:
    """The score rows of a dictionary whose explanations the judge was asked about."""
    generator = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for index in range(n_features):
        feature = Feature(generator, sizes)
        own, *donors = (Judged(judge(feature, i == 0)) for i in range(shuffles + 1))
        rows += [{"feature_index": index, **row} for row in score_rows(feature.items, own, donors, measures)]
    return with_chance(rows)


def headline_rows(
    rows: list[dict[str, Any]], variant: str = "neighbour", metric: str = "balanced_accuracy"
) -> list[dict[str, Any]]:
    """The rows of one metric against one kind of negatives."""
    return [row for row in rows if (row["metric"], row["variant"]) == (metric, variant)]
