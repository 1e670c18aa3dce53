"""The unit of a match: two dictionaries of the catalogue and the matcher that compares them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.ledger import StageOutcome
from tasks.support.policies import StageContext, UnitKey
from tasks.support.stored import open_sets, stored_rows, weights_folder

if TYPE_CHECKING:
    from tasks.matching.matcher import Candidate, Side

STAGE, VERSION = "match_features", 2


@dataclass(frozen=True)
class MatchUnit:
    """Two dictionaries and how to compare them."""

    config: Any
    first: StageOutcome
    second: StageOutcome

    @property
    def label(self) -> str:
        first, second = self.first.facts["dictionary_id"], self.second.facts["dictionary_id"]
        return f"{self.config.matcher} {first} | {second}"

    @property
    def key(self) -> UnitKey:
        """The identity of this match."""
        parents = [self.first.fingerprint, self.second.fingerprint]
        return UnitKey(STAGE, VERSION, self.label, self.config.matching(), parents)

    @property
    def turned(self) -> "MatchUnit":
        """The same two in the other order."""
        return MatchUnit(self.config, self.second, self.first)


def is_comparable(unit: MatchUnit) -> bool:
    """Whether the matcher compares the two dictionaries."""
    from tasks.matching.matcher import matcher_of

    return matcher_of(unit.config).compares(_candidate(unit.first), _candidate(unit.second))


def as_stored(root: Path, units: Sequence[MatchUnit]) -> list[MatchUnit]:
    """The units, turned where the catalogue has the match of the other order only."""
    runs = stored_rows(root, "stage_runs", ["fingerprint", "stage", "state"], stage=STAGE, state="committed")
    done = set(runs["fingerprint"].to_pylist())

    def is_done(unit: MatchUnit) -> bool:
        return unit.key.fingerprint in done

    return [unit.turned if is_done(unit.turned) and not is_done(unit) else unit for unit in units]


def side_of(context: StageContext, landed: StageOutcome) -> "Side":
    """A dictionary of the catalogue as a matcher reads it, with its weights on the device of the run."""
    from tasks.common.device import choose_device
    from tasks.dictionaries.weights import load_dictionary
    from tasks.matching.matcher import Side

    facts = landed.facts
    dictionary = load_dictionary(weights_folder(context.root, facts)).to(choose_device(context.device))
    return Side(
        facts["dictionary_id"],
        facts["activation_set_id"],
        dictionary,
        open_sets(context.root, facts).as_read_by(dictionary).inputs,
        _hooks(facts, "writes"),
    )


def _candidate(landed: StageOutcome) -> "Candidate":
    from tasks.matching.matcher import Candidate

    facts = landed.facts
    return Candidate(_hooks(facts, "reads"), _hooks(facts, "writes"), facts["corpus_id"])


def _hooks(facts: Mapping[str, Any], side: str) -> tuple[str, ...]:
    return tuple(f"{point['model_id']} {point['hookpoint']}" for point in facts[side])
