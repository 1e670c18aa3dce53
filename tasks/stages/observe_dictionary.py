"""Stage: pair a dictionary with activation sets other than those that it was trained on."""

from dataclasses import dataclass
from typing import Any

from catalog.errors import UserError
from catalog.ledger import Claim, StageOutcome
from tasks.common.progress import ProgressListener
from tasks.support.policies import Results, StageContext, UnitKey, run_unit, stage_task
from tasks.support.stored import evidence_label, open_sets, stored_dictionary
from tasks.support.training_units import CachedHookpoint

STAGE, VERSION = "observe_dictionary", 1


@dataclass(frozen=True)
class ObserveUnit:
    """A dictionary of the catalogue, and the hookpoints at which it is looked at."""

    landed: StageOutcome
    reads: tuple[CachedHookpoint, ...]
    writes: tuple[CachedHookpoint, ...]

    @property
    def facts(self) -> dict[str, Any]:
        """The facts of the dictionary, with these sets in place of those that it was trained on."""
        reads, writes = [point.facts for point in self.reads], [point.facts for point in self.writes]
        corpus_id = self.reads[0].cached.facts["corpus_id"]
        of_set = {"activation_set_id": reads[0]["activation_set_id"], "corpus_id": corpus_id}
        return {**self.landed.facts, "reads": reads, "writes": writes, **of_set, "observed": True}

    @property
    def label(self) -> str:
        return evidence_label(self.facts)


@stage_task(STAGE)
def observe_dictionary(context: StageContext, unit: ObserveUnit) -> StageOutcome:
    """Check that the dictionary can read the sets; facts: those of the dictionary, on these sets.

    Raises:
        UserError: when the widths differ.
    """

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        dictionary = stored_dictionary(context.root, unit.facts, "cpu")
        widths = open_sets(context.root, unit.facts).widths
        if (dictionary.d_in, dictionary.d_out) != (widths.d_in, widths.d_out):
            raise UserError(
                f"{unit.landed.facts['alias']} reads {dictionary.d_in} numbers per token, but "
                f"{unit.facts['activation_set_id']} has {widths.d_in}: name a model of that width"
            )
        return Results([], unit.facts)

    points = (*unit.reads, *unit.writes)
    parents = [unit.landed.fingerprint, *dict.fromkeys(point.cached.fingerprint for point in points)]
    config = {"sites": [[point.model.id, point.hookpoint] for point in points]}
    return run_unit(context, UnitKey(STAGE, VERSION, unit.label, config, parents), compute)
