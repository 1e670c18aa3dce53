"""Keep a catalogue small and sound: compact, remove what no version needs, verify."""

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from catalog.errors import CatalogueError
from catalog.ids import digest
from catalog.store import TableStore
from flows.parameters import Catalogue, run_name
from flows.reports import started_run

KeepHours = Annotated[
    int,
    Field(
        ge=24, le=24 * 365, description="Hours a file stays after no version needs it: above the longest run"
    ),
]
Deep = Annotated[bool, Field(description="Read every file and check its checksums, not only the lists")]


@flow(name="housekeeping", flow_run_name=lambda: run_name("housekeeping", ""), persist_result=False)
def housekeeping(catalogue: Catalogue = "", keep_hours: KeepHours = 168, deep: Deep = True) -> dict[str, Any]:
    """Compact small files, remove files that no version needs any more, verify; fails on a fault."""
    config_digest = digest({"keep_hours": keep_hours, "deep": deep})
    with started_run("housekeeping", None, catalogue, frozenset(), config_digest) as run:
        store = TableStore(run.context.root)
        compacted = store.compact()
        removed = store.vacuum(keep_hours=keep_hours)
        faults = store.verify(deep=deep)
        if faults:
            raise CatalogueError(f"{len(faults)} fault(s) in {run.context.root}: {'; '.join(faults[:5])}")
    return run.summary() | {"compacted": compacted, "removed": removed}
