"""What the ledger's tables record about a fingerprint."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from catalog.errors import CatalogueError
from catalog.relations import derived_views, table_select
from catalog.schemas import TABLES
from catalog.snapshot import Snapshot
from catalog.soundness import content_fault, footer_fault, size_fault, sound_files

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_COMMITTED = """
select stage, rows, bytes, seconds, facts, state
from stage_runs
where fingerprint = $fingerprint and state in ('committed', 'lost')
order by attempt desc
limit 1
"""
_LAST_ATTEMPT = "select coalesce(max(attempt), 0) from stage_runs where fingerprint = $fingerprint"
_SLICES = """
select
    mine.table_name,
    slices.rows,
    exists (
        select 1 from commit_order as later
        where later.table_name = mine.table_name and later.subject = mine.subject
          and later.fingerprint <> mine.fingerprint and later.place > mine.place
    ) as superseded
from slices
join commit_order as mine using (table_name, slice)
where mine.fingerprint = $fingerprint
"""
T = TypeVar("T")


@dataclass(frozen=True)
class StageOutcome:
    """The result of a committed stage: rows per table, size, wall time, and facts for later stages."""

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
    """The committed outcome; None if there is none, its rows are lost or another stage replaced them.

    Args:
        snapshot: Version of the catalogue to ask.
        fingerprint: Unit of work.
        replaceable: Per table, whether a later slice of the same subject replaces its rows.
    """

    def ask(connection: "DuckDBPyConnection") -> tuple[tuple[Any, ...] | None, list[tuple[Any, ...]]]:
        values = {"fingerprint": fingerprint}
        found = connection.execute(_COMMITTED, values).fetchone()
        return found, [] if found is None else connection.execute(_SLICES, values).fetchall()

    found, written = _ask_sound(snapshot, ask)
    if found is None or found[-1] == "lost":
        return None
    if any(superseded and replaceable.get(table, False) for table, _, superseded in written):
        return None
    rows: dict[str, int] = {}
    for table, n_rows, _ in written:
        rows[table] = rows.get(table, 0) + int(n_rows)
    stage, n_committed, n_bytes, seconds, facts, _ = found
    if sum(rows.values()) < n_committed:
        return None  # rows of ``slices`` are lost, so it is unknown whether others replaced this unit's
    return StageOutcome(
        fingerprint, str(stage), False, rows, int(n_bytes), float(seconds), dict(json.loads(facts))
    )


def last_attempt(snapshot: Snapshot, fingerprint: str) -> int:
    """Highest attempt recorded for a fingerprint; 0 when there is none."""

    def ask(connection: "DuckDBPyConnection") -> tuple[Any, ...] | None:
        return connection.execute(_LAST_ATTEMPT, {"fingerprint": fingerprint}).fetchone()

    found = _ask_sound(snapshot, ask)
    return int(found[0]) if found else 0


def _ask_sound(snapshot: Snapshot, ask: "Callable[[DuckDBPyConnection], T]") -> T:
    """The result of ``ask`` from the ledger's readable files; it inspects them only if DuckDB fails."""
    import duckdb

    last: Exception | None = None
    for fault_of in (size_fault, footer_fault, content_fault):
        try:
            with duckdb.connect() as connection:
                for name in ("stage_runs", "slices"):
                    files = sound_files(snapshot, name, fault_of)[0]
                    select = table_select(TABLES[name], files, f"{snapshot.root}/")
                    connection.execute(f"CREATE VIEW {name} AS {select}")
                connection.execute(f"CREATE VIEW commit_order AS {dict(derived_views())['commit_order']}")
                return ask(connection)
        except duckdb.Error as error:
            last = error
    raise CatalogueError(
        f"the ledger of {snapshot.root} cannot be read: {str(last).splitlines()[0]}; run `featlas repair`"
    ) from last
