"""Stage: what the scores of a dictionary's labels reach without a good label."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from catalog import queries
from catalog.connection import connect
from catalog.ledger import Claim, StageOutcome
from tasks.common.progress import ProgressListener
from tasks.support.policies import Results, StageContext, UnitKey, run_unit, stage_task
from tasks.support.stored import evidence_ids, evidence_label, evidence_slice

STAGE, VERSION = "measure_floors", 1


@dataclass(frozen=True)
class FloorsUnit:
    """A dictionary on an activation set whose explanations are scored."""

    facts: Mapping[str, Any]

    @property
    def label(self) -> str:
        return evidence_label(self.facts)


@stage_task(STAGE)
def measure_floors(context: StageContext, unit: FloorsUnit) -> StageOutcome:
    """Compare the scores with their floors; facts: ids, the floors that there are, and their dictionaries.

    The unit reads the scores of its floors too. It runs again once any of these scores changes.
    """
    ids = evidence_ids(unit.facts)
    with connect(context.root) as connection:
        sources = queries.floor_sources(**ids).read(connection).to_pylist()
    others = list(
        dict.fromkeys(
            (row["floor"], row["dictionary_id"], row["activation_set_id"]) for row in sources if row["floor"]
        )
    )

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        query = queries.measured_floors(
            **ids,
            floors=[floor for floor, _, _ in others],
            floor_dictionaries=[dictionary for _, dictionary, _ in others],
            floor_sets=[activation_set for _, _, activation_set in others],
        )
        with connect(context.root) as reader:
            rows = query.read(reader)
        measured = sorted(set(rows["floor"].to_pylist()))
        facts = {**ids, "floors": measured, "dictionaries": sorted({one[1] for one in others})}
        return Results([evidence_slice("score_floors", unit.facts, rows)], facts)

    read = [[row["fingerprint"], row["n"], row["total"]] for row in sources]
    parents = sorted({row["fingerprint"] for row in sources})
    return run_unit(context, UnitKey(STAGE, VERSION, unit.label, {"scores": read}, parents), compute)
