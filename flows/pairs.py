"""Which pairs of dictionaries a matcher compares: the rules of ``pairs``, and the dictionaries of ``with``.

A rule looks at two dictionaries of a pipeline. A matcher of the pipeline compares two of them if one of its
rules holds, and each of them with every dictionary of the catalogue that ``with`` names. Controls are never
matched, and a matcher leaves out what it cannot compare.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from catalog.ledger import StageOutcome
from flows.pair_limit import named_others
from tasks.matching.matcher import MatcherConfig, PairRule
from tasks.support.match_units import MatchUnit, is_comparable
from tasks.support.stored import landed_beside

if TYPE_CHECKING:
    from flows.members import Trained

_NUMBER = re.compile(r"(?<![A-Za-z0-9_])\d+(?![A-Za-z0-9_])")


class Rule(NamedTuple):
    """One way to choose pairs of the dictionaries of a pipeline."""

    purpose: str
    """Which pairs it chooses, as the end of a sentence that begins with its name."""
    holds: "Callable[[Trained, Trained, Sequence[Trained]], bool]"
    """Whether it chooses two dictionaries, among all of the pipeline."""


def _same_place(first: "Trained", second: "Trained", among: "Sequence[Trained]") -> bool:
    return _models(first) == _models(second) and first.place == second.place


def _seeds(first: "Trained", second: "Trained", among: "Sequence[Trained]") -> bool:
    return _same_place(first, second, among) and first.is_sibling(second)


def _layers(first: "Trained", second: "Trained", among: "Sequence[Trained]") -> bool:
    same_models = _models(first) == _models(second)
    return same_models and _same_kind(first, second) and first.place != second.place


def _adjacent_layers(first: "Trained", second: "Trained", among: "Sequence[Trained]") -> bool:
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


def _other_models(first: "Trained", second: "Trained", among: "Sequence[Trained]") -> bool:
    same_kind = _same_kind(first, second) and _same_position(first, second)
    return same_kind and _models(first) != _models(second)


RULES: Mapping[PairRule, Rule] = {
    "same_place": Rule(
        "chooses different dictionaries of one model at one hookpoint, other seeds included", _same_place
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


def chosen_pairs(trained: "Sequence[Trained]", rules: Iterable[PairRule]) -> "list[tuple[Trained, Trained]]":
    """The pairs of dictionaries for which a rule holds, each once, in the order of the pipeline."""
    found = [one for one in trained if not one.config.is_control]
    chosen = [RULES[name] for name in rules]
    return [
        (first, second)
        for first, second in combinations(found, 2)
        if any(rule.holds(first, second, found) for rule in chosen)
    ]


def pipeline_units(
    matchers: Sequence[MatcherConfig], trained: "Sequence[Trained]", root: Path
) -> list[MatchUnit]:
    """What the matchers of a pipeline compare: pairs that ``pairs`` chooses, then those that ``with`` adds.

    Raises:
        UserError: for a pattern of ``with`` that finds nothing.
    """
    here = [one.outcome for one in trained if not one.config.is_control]
    units: list[MatchUnit] = []
    for matcher in matchers:
        pairs = chosen_pairs(trained, matcher.pairs)
        units += [MatchUnit(matcher, first.outcome, second.outcome) for first, second in pairs]
        others = named_others(matcher, root)
        units += crossed_units([matcher], here, _unlike(others, [one.outcome for one in trained]))
    return [unit for unit in units if is_comparable(unit)]


def landed_units(matchers: Sequence[MatcherConfig], landed: StageOutcome, root: Path) -> list[MatchUnit]:
    """What the matchers of a pipeline compare an imported dictionary with: all others at its place on its
    texts if ``pairs`` has ``same_place``, and those that ``with`` names.

    Raises:
        UserError: for a pattern of ``with`` that finds nothing.
    """
    beside = landed_beside(root, landed.facts) if matchers else []
    units: list[MatchUnit] = []
    for matcher in matchers:
        if "same_place" in matcher.pairs:
            units += crossed_units([matcher], beside, [landed])
        others = named_others(matcher, root)
        units += crossed_units([matcher], [landed], _unlike(others, [landed, *beside]))
    return [unit for unit in units if is_comparable(unit)]


def crossed_units(
    matchers: Iterable[MatcherConfig], first: Sequence[StageOutcome], second: Sequence[StageOutcome]
) -> list[MatchUnit]:
    """Every dictionary of one list with every one of another, each two once and none with itself."""
    pairs: dict[frozenset[str], tuple[StageOutcome, StageOutcome]] = {}
    for one, other in product(first, second):
        if _id(one) != _id(other):
            pairs.setdefault(frozenset((_id(one), _id(other))), (one, other))
    return [MatchUnit(matcher, *pair) for matcher in matchers for pair in pairs.values()]


def _unlike(landed: Iterable[StageOutcome], here: Iterable[StageOutcome]) -> list[StageOutcome]:
    known = {_id(one) for one in here}
    return [one for one in landed if _id(one) not in known]


def _id(landed: StageOutcome) -> str:
    return str(landed.facts["dictionary_id"])


def _sites(one: "Trained") -> list[Mapping[str, Any]]:
    return [*one.outcome.facts["reads"], *one.outcome.facts["writes"]]


def _models(one: "Trained") -> tuple[str, ...]:
    """The models of all its hookpoints, each once."""
    return tuple(dict.fromkeys(str(site["model_id"]) for site in _sites(one)))


def _same_kind(first: "Trained", second: "Trained") -> bool:
    return first.config.name() == second.config.name()


def _same_position(first: "Trained", second: "Trained") -> bool:
    """Whether both have one position in the lists of hookpoints, or one place where one has no position."""
    if first.place.isdigit() and second.place.isdigit():
        return first.place == second.place
    return bool(first.outcome.facts["place"] == second.outcome.facts["place"])


def _layer(one: "Trained") -> tuple[int, str]:
    """The layer of its first hookpoint, and its hookpoints without layers; -1 if they name no layer."""
    text = " ".join(str(site["hookpoint"]) for site in _sites(one))
    layer = _NUMBER.search(text)
    return (int(layer[0]) if layer else -1), _NUMBER.sub("#", text)
