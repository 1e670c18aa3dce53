"""The part of the graph that compares what dictionaries do on documents: associations and comparisons."""

from collections.abc import Mapping, Sequence

from catalog.errors import UserError
from flows.graph import named
from flows.walk import Walk
from tasks.observing.config import CorporaComparison, GrowthComparison, ModelsComparison
from tasks.stages.associate_labels import AssociateUnit, associate_labels
from tasks.stages.compare_observations import compare_observations
from tasks.support.compare_units import CompareUnit
from tasks.support.observed import Observed, label_counts, newest_documents

STAGES = named("associate_labels", "compare_observations")
_VALUES_SHOWN = 10


def check_labels(walk: Walk) -> None:
    """Refuse labels and values that no corpus has on which the pipeline looks at dictionaries.

    Raises:
        UserError: naming the label or value, and those there are.
    """
    config = walk.config
    compared = [one for one in config.compare if one.kind == "labels"]
    if not config.associate.labels and not compared:
        return
    labels: dict[str, set[str]] = {}
    for corpus_id in dict.fromkeys([None, *(entry.corpus for entry in config.observe)]):
        for label, values in _labels(walk, walk.corpus(corpus_id).facts["corpus_id"]).items():
            labels.setdefault(label, set()).update(values)
    for label in (*(config.associate.labels or ()), *(one.label for one in compared)):
        if label not in labels:
            known = ", ".join(sorted(labels)) or "none"
            raise UserError(f"the corpus has no label {label!r}; labels: {known}")
    for one in compared:
        for value in (one.a, one.b):
            if value not in labels[one.label]:
                known = _shown(sorted(labels[one.label]))
                raise UserError(f"compare: label {one.label!r} has no value {value!r}; values: {known}")


def comparison_stages(walk: Walk, observed: Observed) -> None:
    """Associations with the labels of the corpus, and comparisons of groups of its documents."""
    config = walk.config
    walk.observed.append(observed)
    if not config.mining.document_firings.keep or walk.chosen.isdisjoint(STAGES):
        return
    labels = _labels(walk, observed.facts["corpus_id"])
    if labels:
        with walk.run.branch(f"associate {observed.subject}"):
            found = walk.do(associate_labels, AssociateUnit(config.associate, observed))
            walk.run.tell_skipped(found.facts.get("skipped", ()))
    for comparison in config.compare:
        if comparison.kind == "growth":
            _compare_growth(walk, comparison, observed)
        elif comparison.kind == "labels":
            if {comparison.a, comparison.b} <= labels.get(comparison.label, {}).keys():
                _compare(walk, CompareUnit(comparison, observed, observed))
            else:
                walk.run.tell_skipped([f"{observed.facts['corpus_id']} lacks a side of {comparison.name}"])


def set_comparison_stages(walk: Walk) -> None:
    """Comparisons of models and of corpora, for every dictionary that was looked at on both sides."""
    if not walk.comes_to(compare_observations):
        return
    for comparison in walk.config.compare:
        if comparison.kind == "labels" or comparison.kind == "growth":
            continue
        pairs = _pairs(walk, comparison)
        for a, b in pairs:
            _compare(walk, CompareUnit(comparison, a, b))
        if not pairs:
            walk.run.tell_skipped([f"comparison {comparison.name} found no dictionary on both sides"])


def _compare_growth(walk: Walk, comparison: GrowthComparison, observed: Observed) -> None:
    """The documents of the last night against all earlier ones, where there are enough."""
    corpus_id = str(observed.facts["corpus_id"])
    n = newest_documents(walk.run.context.root, corpus_id)
    if n >= comparison.min_documents:
        _compare(walk, CompareUnit(comparison, observed, observed))
    elif n:
        few = f"{corpus_id} gained {n} documents, fewer than {comparison.min_documents}"
        walk.run.tell_skipped([f"comparison {comparison.name}: {few}"])


def _labels(walk: Walk, corpus_id: str) -> Mapping[str, Mapping[str, int]]:
    """The labels of a corpus of the catalogue, read once in a walk."""
    if corpus_id not in walk.labels:
        walk.labels[corpus_id] = label_counts(walk.run.context.root, corpus_id)
    return walk.labels[corpus_id]


def _pairs(walk: Walk, comparison: CorporaComparison | ModelsComparison) -> list[tuple[Observed, Observed]]:
    """One dictionary on two sets that differ in the model, or in the corpus, and in nothing else."""

    def hookpoints_of(one: Observed, side: str) -> tuple[object, ...] | None:
        """What both sides have in common, for an observation that belongs to a side; else None."""
        points = [*one.facts["reads"], *one.facts["writes"]]
        hookpoints = tuple(point["hookpoint"] for point in points)
        models = tuple(point["model_id"] for point in points)
        corpus = one.facts["corpus_id"]
        if comparison.kind == "models":
            common: tuple[object, ...] = (corpus,)
            belongs = set(models) == {side}
        else:
            common = models
            belongs = corpus == walk.corpus(side).facts["corpus_id"]
        return (one.facts["dictionary_id"], hookpoints, *common) if belongs else None

    of_b = {hookpoints_of(one, comparison.b): one for one in walk.observed}
    found = ((one, of_b.get(hookpoints_of(one, comparison.a) or ())) for one in walk.observed)
    return [(a, b) for a, b in found if b is not None]


def _compare(walk: Walk, unit: CompareUnit) -> None:
    with walk.run.branch(f"compare {unit.label}"):
        walk.do(compare_observations, unit)


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _VALUES_SHOWN} more" if len(names) > _VALUES_SHOWN else ""
    return ", ".join(names[:_VALUES_SHOWN]) + more
