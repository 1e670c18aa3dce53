"""Stage: match the features of two dictionaries."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catalog.ledger import Claim, StageOutcome
from catalog.store import SliceWrite
from tasks.common.progress import ProgressListener
from tasks.support.policies import Results, StageContext, UnitKey, run_unit, stage_task
from tasks.support.stored import open_sites, weights_folder

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


def is_comparable(unit: MatchUnit) -> bool:
    """Whether the matcher compares the two dictionaries."""
    from tasks.matching.matcher import matcher_of

    return matcher_of(unit.config).compares(_candidate(unit.first), _candidate(unit.second))


@stage_task(STAGE)
def match_features(context: StageContext, unit: MatchUnit) -> StageOutcome:
    """Match two dictionaries; facts: both ids and the matcher's summary."""

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.matching.matcher import match_dictionaries

        first, second = (_side(context, trained) for trained in (unit.first, unit.second))
        matched = match_dictionaries(first, second, unit.config, listener)
        ids = {"dictionary_a": first.dictionary_id, "dictionary_b": second.dictionary_id}
        facts = {**ids, "matcher": unit.config.matcher, "summary": dict(matched.facts)}
        return Results([SliceWrite("matches", unit.label, matched.table)], facts)

    parents = [unit.first.fingerprint, unit.second.fingerprint]
    key = UnitKey(STAGE, VERSION, unit.label, unit.config.canonical(), parents)
    return run_unit(context, key, compute, shares_cores=True)


def _hooks(trained: StageOutcome, sites: str) -> tuple[str, ...]:
    return tuple(f"{site['model_id']} {site['hookpoint']}" for site in trained.facts[sites])


def _candidate(trained: StageOutcome) -> "Candidate":
    from tasks.matching.matcher import Candidate

    return Candidate(_hooks(trained, "reads"), _hooks(trained, "writes"), trained.facts["corpus_id"])


def _side(context: StageContext, trained: StageOutcome) -> "Side":
    from tasks.common.device import choose_device
    from tasks.dictionaries.weights import load_dictionary
    from tasks.matching.matcher import Side

    facts = trained.facts
    dictionary = load_dictionary(weights_folder(context.root, facts)).to(choose_device(context.device))
    return Side(
        facts["dictionary_id"],
        facts["activation_set_id"],
        dictionary,
        open_sites(context.root, facts).as_read_by(dictionary).inputs,
        _hooks(trained, "writes"),
    )
