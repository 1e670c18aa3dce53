"""The part of the graph that compares what dictionaries do on documents: associations and comparisons."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.errors import UserError
from flows.config import PipelineConfig
from tasks.stages.associate_labels import AssociateUnit, associate_labels
from tasks.stages.compare_observations import compare_observations
from tasks.support.compare_units import CompareUnit
from tasks.support.observed import Observed, label_counts

if TYPE_CHECKING:
    from flows.walk import Walk

_VALUES_SHOWN = 10


def check_labels(config: PipelineConfig, root: Path, corpus_id: str) -> None:
    """Refuse labels and values that the corpus does not have.

    Raises:
        UserError: naming the label or value, and those there are.
    """
    named = config.associate.labels or ()
    compared = [one for one in config.compare if one.kind == "labels"]
    if not named and not compared:
        return
    labels = label_counts(root, corpus_id)
    for label in (*named, *(one.label for one in compared)):
        if label not in labels:
            raise UserError(f"the corpus has no label {label!r}; labels: {', '.join(labels) or 'none'}")
    for one in compared:
        for value in (one.a, one.b):
            if value not in labels[one.label]:
                known = _shown(labels[one.label])
                raise UserError(f"compare: label {one.label!r} has no value {value!r}; values: {known}")


def comparison_stages(walk: "Walk", observed: Observed) -> None:
    """Associations with the labels of the corpus, and comparisons of groups of its documents."""
    config, root = walk.config, walk.run.context.root
    if not config.mining.document_firings.keep or not label_counts(root, observed.facts["corpus_id"]):
        return
    with walk.run.branch(f"associate {observed.subject}"):
        found = walk.do(associate_labels, AssociateUnit(config.associate, observed))
        walk.run.tell_skipped(found.facts.get("skipped", ()))
    for comparison in config.compare:
        unit = CompareUnit(comparison, observed, observed)
        with walk.run.branch(f"compare {unit.label}"):
            walk.do(compare_observations, unit)


def _shown(values: Mapping[str, int]) -> str:
    names = list(values)
    more = f" and {len(names) - _VALUES_SHOWN} more" if len(names) > _VALUES_SHOWN else ""
    return ", ".join(names[:_VALUES_SHOWN]) + more
