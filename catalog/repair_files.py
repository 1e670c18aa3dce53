"""Take missing and damaged data files out of the catalogue, and name the work whose rows they held.

A unit of work whose rows were lost gets a row in ``stage_runs`` with the state ``lost``, so that the next run
does it again. Lost rows of ``slices`` are rebuilt from the data that they describe.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from catalog.changes import Change, share_files
from catalog.commit import commit_changes
from catalog.connection import connect
from catalog.durable import said_plainly
from catalog.errors import CatalogueError
from catalog.repair_versions import aside
from catalog.rows import conform
from catalog.schemas import TABLES
from catalog.snapshot import Snapshot, read_snapshot, versions
from catalog.soundness import Damage, content_fault, sound_files

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LEDGER = ("stage_runs", "slices")

_LOST_SLICES = """
with live as (select slice, count(*) as n from {table} group by slice)
select s.* replace (coalesce(live.n, 0) as rows)
from commit_order as c
join slices as s using (table_name, slice)
left join live using (slice)
where c.table_name = $table and coalesce(live.n, 0) < s.rows
  and (list_has_any(s.files, $damaged) or not list_has_any(s.files, $live))
  and ($append_only or c.place = (
      select max(o.place) from commit_order as o where o.table_name = c.table_name and o.subject = c.subject
  ))
order by c.slice
"""
_LOST_RUNS = """
select r.* replace (
    r.attempt + 1 as attempt, 'lost' as state, null as run_id, 0 as rows, 0 as bytes, 0.0 as seconds,
    $now::timestamptz as started_at, $now::timestamptz as finished_at, $reason::varchar as error
)
from (
    select * from stage_runs where list_contains($fingerprints::varchar[], fingerprint)
    qualify row_number() over (partition by fingerprint order by attempt desc) = 1
) as r
where r.state <> 'lost'
order by r.stage, r.label
"""
_UNLISTED = """
with done as (
    select fingerprint, max(finished_at) as finished_at
    from stage_runs where state = 'committed' group by fingerprint
),
unlisted as (
    select
        t.slice, t.subject, t.fingerprint, count(*) as n,
        coalesce(any_value(done.finished_at), $now::timestamptz) as done_at
    from {table} as t
    left join done using (fingerprint)
    where t.slice not in (select slice from slices where table_name = $table)
    group by t.slice, t.subject, t.fingerprint
)
select
    slice, subject, fingerprint, n, done_at,
    (select max(committed_in) from slices where committed_at <= done_at) as listed_before
from unlisted
order by done_at, slice
"""


def set_damaged_files_aside(root: Path) -> list[str]:
    """Publish a version without the files that cannot be read; return what was done, one line each.

    This reads every byte of every live file.
    """
    done: list[str] = []
    damaged: list[Damage] = []

    def changes(base: Snapshot) -> list[Change]:
        damaged[:] = [d for name in TABLES for d in sound_files(base, name, content_fault)[1]]
        done.extend(f"{d.table}: {d.path} {d.reason}; its {d.rows} rows are lost" for d in damaged)
        return _without_damaged(base, damaged, done) if damaged else []

    commit_changes(root, changes, "repair", new_files=True)
    with said_plainly("repair", root):
        done += [aside(root, root / d.path) for d in damaged if (root / d.path).is_file()]
    return done


def _without_damaged(base: Snapshot, damaged: list[Damage], done: list[str]) -> list[Change]:
    """Per table: remove the damaged files; in the ledger also the rows that record what was lost."""
    reasons = {damage.path: damage.reason for damage in damaged}
    removed = {
        name: Change(name, [], [file for file in base.files(name) if file.path in reasons])
        for name in base.tables
        if name in TABLES
    }
    tables = [name for name in TABLES if any(damage.table == name for damage in damaged)]
    with connect(base.root, snapshot=base, left_out=reasons) as connection:
        slices = _lost_slices(connection, base, tables, reasons)
        lost = sorted(set(slices.column("fingerprint").to_pylist()))
        runs = _lost_runs(connection, lost, done)
        if "slices" in tables:
            slices = pa.concat_tables([slices, _unlisted_slices(connection, base, reasons)])
        if "stage_runs" in tables:
            done.append("stage_runs: units of work whose record was lost are done again when next asked for")
    for name, rows in (("stage_runs", runs), ("slices", slices)):
        if rows.num_rows:
            change = share_files(base, name, rows, left_out=reasons)
            removed[name].add += change.add
            removed[name].remove += change.remove
    return list(removed.values())


def _lost_slices(
    connection: "DuckDBPyConnection", base: Snapshot, tables: list[str], reasons: Mapping[str, str]
) -> pa.Table:
    """Rows of ``slices`` that list more rows than the damaged tables still hold, with the remaining count."""
    spec = TABLES["slices"]
    found = [spec.schema.empty_table()]
    for name in tables:
        if name in LEDGER:
            continue
        values: dict[str, Any] = {
            "table": name,
            "damaged": list(reasons),
            "live": [file.path for file in base.files(name) if file.path not in reasons],
            "append_only": TABLES[name].append_only,
        }
        rows = connection.sql(_LOST_SLICES.format(table=name), params=values).to_arrow_table()
        found.append(conform(rows, spec, common=True))
    return pa.concat_tables([conform(table, spec, common=True) for table in found])


def _lost_runs(connection: "DuckDBPyConnection", lost: list[str], done: list[str]) -> pa.Table:
    values = {
        "fingerprints": lost,
        "now": datetime.now(UTC),
        "reason": "featlas repair: a data file that held its rows was damaged",
    }
    rows = connection.sql(_LOST_RUNS, params=values).to_arrow_table()
    done += [
        f"to be run again: {row['stage']} of {row['label']}, fingerprint {row['fingerprint']}"
        for row in rows.select(["stage", "label", "fingerprint"]).to_pylist()
    ]
    n_other = len(lost) - rows.num_rows
    if n_other:
        done.append(f"rows without a stage run are lost: {n_other} fingerprints")
    return conform(rows, TABLES["stage_runs"], common=True)


def _unlisted_slices(
    connection: "DuckDBPyConnection", base: Snapshot, reasons: Mapping[str, str]
) -> pa.Table:
    """Rows of ``slices`` for slices of the other tables that no readable row describes.

    The version that committed a slice is the newest one that names its fingerprint. When housekeeping has
    removed that version's file, it is the version of the last listed slice before the unit of work ended.
    """
    rows: list[dict[str, Any]] = []
    committed = _newest_versions(base.root)
    for name, spec in TABLES.items():
        if name in LEDGER or name not in base.tables:
            continue
        files = [file for file in base.files(name) if file.path not in reasons]
        values = {"table": name, "now": datetime.now(UTC)}
        for slice_, subject, fingerprint, n, at, before in connection.execute(
            _UNLISTED.format(table=name), values
        ).fetchall():
            own = [f for f in files if not spec.partition_by or f.partition.get("subject") == subject]
            rows.append(
                {
                    "table_name": name,
                    "files": [f.path for f in own],
                    "file_rows": [f.rows for f in own],
                    "file_bytes": [f.n_bytes for f in own],
                    "sha256": [f.sha256 for f in own],
                    "rows": n,
                    "bytes": sum(f.n_bytes for f in own),
                    "schema_version": spec.version,
                    "committed_at": at,
                    "committed_in": committed.get(fingerprint, before),
                    "fingerprint": fingerprint,
                    "slice": slice_,
                    "subject": subject,
                }
            )
    spec = TABLES["slices"]
    return conform(pa.Table.from_pylist(rows, schema=spec.schema.remove_metadata()), spec, common=True)


def _newest_versions(root: Path) -> dict[str, int]:
    """Fingerprint of a unit of work → the newest version of the catalogue that it committed."""
    found: dict[str, int] = {}
    for version in versions(root):
        with suppress(CatalogueError):
            found[read_snapshot(root, version).fingerprint] = version
    return found
