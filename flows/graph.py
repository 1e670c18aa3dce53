"""The stages of a pipeline, in the order in which they run, each with the stages that it reads."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

NEEDS: dict[str, tuple[str, ...]] = {
    "load_corpus": (),
    "describe_model": (),
    "cache_activations": ("load_corpus", "describe_model"),
    "train_dictionary": ("cache_activations",),
    "observe_dictionary": ("train_dictionary",),
    "evaluate_dictionary": ("observe_dictionary",),
    "evaluate_suite": ("observe_dictionary",),
    "mine_examples": ("observe_dictionary",),
    "associate_labels": ("mine_examples",),
    "compare_observations": ("mine_examples",),
    "explain_features": ("mine_examples",),
    "calibrate_judge": ("explain_features",),
    "score_explanations": ("calibrate_judge",),
    "measure_floors": ("score_explanations",),
    "match_features": ("train_dictionary",),
}


def known(stage: str) -> str:
    """The name of a stage.

    Raises:
        ValueError: one clause that lists the stages, for a name that is none of them.
    """
    if stage not in NEEDS:
        raise ValueError(f"there is no stage {stage!r}; stages are {', '.join(NEEDS)}")
    return stage


Stage = Annotated[str, AfterValidator(known), Field(json_schema_extra={"enum": list(NEEDS)})]
"""The name of a stage; a form offers the stages of the table."""


def named(*stages: Stage) -> tuple[Stage, ...]:
    """These stages of the table.

    Raises:
        ValueError: for a name that is no stage.
    """
    return tuple(map(known, stages))


def with_needs(stages: Sequence[Stage]) -> frozenset[Stage]:
    """The stages and all stages that they read; all stages if none is named."""
    chosen: set[Stage] = set()
    waiting = list(stages or NEEDS)
    while waiting:
        stage = waiting.pop()
        if stage not in chosen:
            chosen.add(stage)
            waiting.extend(NEEDS[stage])
    return frozenset(chosen)


def following(stage: Stage) -> tuple[Stage, ...]:
    """The stages that read a stage, directly or through others."""
    return tuple(later for later in NEEDS if later != stage and stage in with_needs([later]))
