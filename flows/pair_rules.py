"""The rules of ``pairs``: which dictionaries of a pipeline a matcher compares with each other.

A rule looks at two dictionaries of a pipeline, trained by it or taken from the catalogue. Prefect is not
imported here: a request is checked before its server starts.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from flows.members import Trained
from tasks.matching.matcher import PairRule

_NUMBER = re.compile(r"(?<![A-Za-z0-9_])\d+(?![A-Za-z0-9_])")


class Rule(NamedTuple):
    """One way to choose pairs of the dictionaries of a pipeline."""

    purpose: str
    """Which pairs it chooses, as the end of a sentence that begins with its name."""
    holds: Callable[[Trained, Trained, Sequence[Trained]], bool]
    """Whether it chooses two dictionaries, among all of the pipeline."""


def _same_hookpoints(first: Trained, second: Trained, among: Sequence[Trained]) -> bool:
    return _models(first) == _models(second) and first.hookpoints_key == second.hookpoints_key


def _seeds(first: Trained, second: Trained, among: Sequence[Trained]) -> bool:
    return _same_hookpoints(first, second, among) and first.is_sibling(second)


def _layers(first: Trained, second: Trained, among: Sequence[Trained]) -> bool:
    same_models = _models(first) == _models(second)
    return same_models and _same_kind(first, second) and first.hookpoints_key != second.hookpoints_key


def _adjacent_layers(first: Trained, second: Trained, among: Sequence[Trained]) -> bool:
    if not _layers(first, second, among):
        return False
    (low, hookpoint), (high, other_hookpoint) = sorted((_layer(first), _layer(second)))
    between = (
        _layer(one)
        for one in among
        if _models(one) == _models(first) and _same_kind(one, first) and _layer(one)[1] == hookpoint
    )
    same_hookpoint = hookpoint == other_hookpoint and low < high
    return same_hookpoint and not any(low < layer < high for layer, _ in between)


def _other_models(first: Trained, second: Trained, among: Sequence[Trained]) -> bool:
    same_kind = _same_kind(first, second) and _same_position(first, second)
    return same_kind and _models(first) != _models(second)


RULES: Mapping[PairRule, Rule] = {
    "same_place": Rule(
        "chooses different dictionaries of one model at one hookpoint, other seeds included", _same_hookpoints
    ),
    "seeds": Rule("chooses dictionaries that differ in their seeds alone", _seeds),
    "layers": Rule("chooses one kind of dictionary at any two hookpoints of one model", _layers),
    "adjacent_layers": Rule(
        "chooses one kind of dictionary at one hookpoint of two layers of one model, without another of this "
        "kind at a layer between them",
        _adjacent_layers,
    ),
    "models": Rule("chooses one kind of dictionary at one position in two models", _other_models),
}


def chosen_pairs(trained: Sequence[Trained], rules: Iterable[PairRule]) -> list[tuple[Trained, Trained]]:
    """The pairs of dictionaries for which a rule holds, each once, in the order of the pipeline."""
    found = [one for one in trained if not one.config.is_control]
    chosen = [RULES[name] for name in rules]
    return [
        (first, second)
        for first, second in combinations(found, 2)
        if any(rule.holds(first, second, found) for rule in chosen)
    ]


def _points(one: Trained) -> list[Mapping[str, Any]]:
    return [*one.outcome.facts["reads"], *one.outcome.facts["writes"]]


def _models(one: Trained) -> tuple[str, ...]:
    """The models of all its hookpoints, each once."""
    return tuple(dict.fromkeys(str(point["model_id"]) for point in _points(one)))


def _same_kind(first: Trained, second: Trained) -> bool:
    return first.config.name() == second.config.name()


def _same_position(first: Trained, second: Trained) -> bool:
    """Whether both have the same position in the lists of hookpoints, else the same hookpoints."""
    if first.hookpoints_key.isdigit() and second.hookpoints_key.isdigit():
        return first.hookpoints_key == second.hookpoints_key
    return bool(first.outcome.facts["place"] == second.outcome.facts["place"])


def _layer(one: Trained) -> tuple[int, str]:
    """The layer of its first hookpoint, and its hookpoints without layers; -1 if they name no layer."""
    text = " ".join(str(point["hookpoint"]) for point in _points(one))
    layer = _NUMBER.search(text)
    return (int(layer[0]) if layer else -1), _NUMBER.sub("#", text)
