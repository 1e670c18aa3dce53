"""Checks of the section ``compare`` of a pipeline file against its other sections."""

from collections.abc import Sequence

from flows.config_entries import NamedCorpus, ObserveConfig
from tasks.observing.config import WITHIN_A_SET, CompareConfig


def check_comparisons(
    compare: Sequence[CompareConfig],
    observe: Sequence[ObserveConfig],
    models: Sequence[str],
    corpora: Sequence[NamedCorpus],
) -> None:
    """Refuse a side that the pipeline does not have, and a comparison that no dictionary can take part in.

    Raises:
        ValueError: naming the comparison and what there is.
    """
    known = {"model": models, "corpus": [one.id for one in corpora]}
    observed = {"model": {one.model for one in observe}, "corpus": {one.corpus for one in observe}}
    for comparison in compare:
        if comparison.kind == "growth" and not any(one.texts.grows for one in corpora):
            raise ValueError(f"comparison {comparison.name!r} needs a corpus with grows: true")
        if comparison.kind in WITHIN_A_SET:
            continue
        what = "model" if comparison.kind == "models" else "corpus"
        sides = (comparison.a, comparison.b)
        for side in sides:
            if side not in known[what]:
                there = ", ".join(known[what])
                raise ValueError(f"comparison {comparison.name!r} names {side!r}; {comparison.kind}: {there}")
        if not observed[what].intersection(sides):
            raise ValueError(
                f"comparison {comparison.name!r} needs dictionaries on both sides: add "
                f"{{{what}: {comparison.b}}} to observe"
            )


def check_firings(compare: Sequence[CompareConfig]) -> None:
    """Refuse a comparison that reads firings by document, where mining does not keep them.

    Raises:
        ValueError: naming the comparison.
    """
    for comparison in compare:
        if comparison.kind != "models":
            raise ValueError(
                f"comparison {comparison.name!r} reads document_firings: set "
                "mining.document_firings.keep to true"
            )
