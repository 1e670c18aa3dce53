"""The stages of a pipeline, in the order in which they run, each with the stages that it reads."""

from collections.abc import Sequence
from typing import Literal

Stage = Literal[
    "load_corpus",
    "describe_model",
    "cache_activations",
    "train_dictionary",
    "observe_dictionary",
    "evaluate_dictionary",
    "evaluate_suite",
    "mine_examples",
    "associate_labels",
    "compare_observations",
    "explain_features",
    "score_explanations",
    "match_features",
]
NEEDS: dict[Stage, tuple[Stage, ...]] = {
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
    "score_explanations": ("explain_features",),
    "match_features": ("train_dictionary",),
}


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
