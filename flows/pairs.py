"""Which pairs of dictionaries are matched: those of the rules of ``pairs``, and the dictionaries of ``with``.

A matcher of the pipeline compares two of its dictionaries if one of the rules holds (`flows.pair_rules`), and
each of them with every dictionary of the catalogue that ``with`` names. Controls are never matched, and a
matcher leaves out what it cannot compare.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

from catalog.ledger import StageOutcome
from flows.members import Trained
from flows.pair_limit import named_others
from flows.pair_rules import chosen_pairs
from tasks.matching.matcher import MatcherConfig
from tasks.support.match_units import MatchUnit, as_stored, is_comparable
from tasks.support.stored import landed_beside


def pipeline_units(
    matchers: Sequence[MatcherConfig], trained: Sequence[Trained], root: Path
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
    return as_stored(root, [unit for unit in units if is_comparable(unit)])


def landed_units(matchers: Sequence[MatcherConfig], landed: StageOutcome, root: Path) -> list[MatchUnit]:
    """What the matchers of a pipeline compare an imported dictionary with: all others at its hookpoints on
    its texts if ``pairs`` has ``same_place``, and those that ``with`` names.

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
    return as_stored(root, [unit for unit in units if is_comparable(unit)])


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
