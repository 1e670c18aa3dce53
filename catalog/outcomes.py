"""What the ledger's tables say about a fingerprint."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from catalog.snapshot import Snapshot

_COMMITTED = """
select stage, rows, bytes, seconds, facts
from read_parquet($stage_runs, hive_partitioning = false)
where fingerprint = $fingerprint and state = 'committed'
order by attempt desc
limit 1
"""
_LAST_ATTEMPT = """
select coalesce(max(attempt), 0)
from read_parquet($stage_runs, hive_partitioning = false)
where fingerprint = $fingerprint
"""
_SLICES = """
with written as (
    select table_name, subject, fingerprint, committed_at, rows
    from read_parquet($slices, hive_partitioning = false)
)
select
    mine.table_name,
    mine.rows,
    exists (
        select 1 from written as later
        where later.table_name = mine.table_name and later.subject = mine.subject
          and later.fingerprint <> mine.fingerprint and later.committed_at > mine.committed_at
    ) as superseded
from written as mine
where mine.fingerprint = $fingerprint
"""


@dataclass(frozen=True)
class StageOutcome:
    """What a committed stage left: rows per table, size, wall time, and facts later stages refer to."""

    fingerprint: str
    stage: str
    recomputed: bool
    rows: dict[str, int] = field(default_factory=dict)
    n_bytes: int = 0
    seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)


def read_outcome(
    snapshot: Snapshot, fingerprint: str, replaceable: Mapping[str, bool]
) -> StageOutcome | None:
    """The committed outcome, or None when there is none or another stage replaced its rows since.

    Args:
        snapshot: Version of the catalogue to ask.
        fingerprint: Unit of work.
        replaceable: Per table, whether a later slice of the same subject takes the place of its rows.
    """
    stage_runs, slices = snapshot.paths("stage_runs"), snapshot.paths("slices")
    if not stage_runs:
        return None
    import duckdb

    with duckdb.connect() as connection:
        found = connection.execute(
            _COMMITTED, {"stage_runs": stage_runs, "fingerprint": fingerprint}
        ).fetchone()
        if found is None:
            return None
        written = (
            connection.execute(_SLICES, {"slices": slices, "fingerprint": fingerprint}).fetchall()
            if slices
            else []
        )
    if any(superseded and replaceable.get(table, False) for table, _, superseded in written):
        return None
    rows: dict[str, int] = {}
    for table, n_rows, _ in written:
        rows[table] = rows.get(table, 0) + int(n_rows)
    stage, _, n_bytes, seconds, facts = found
    return StageOutcome(
        fingerprint, str(stage), False, rows, int(n_bytes), float(seconds), dict(json.loads(facts))
    )


def last_attempt(snapshot: Snapshot, fingerprint: str) -> int:
    """Highest attempt recorded for a fingerprint; 0 when there is none."""
    stage_runs = snapshot.paths("stage_runs")
    if not stage_runs:
        return 0
    import duckdb

    with duckdb.connect() as connection:
        found = connection.execute(
            _LAST_ATTEMPT, {"stage_runs": stage_runs, "fingerprint": fingerprint}
        ).fetchone()
    return int(found[0]) if found else 0
