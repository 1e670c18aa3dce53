"""Keep a catalogue small and sound: compact, remove what no version needs, verify."""

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from catalog.errors import CatalogueError
from catalog.ids import digest
from catalog.store import TableStore
from flows.commands.upkeep import damaged_shards
from flows.parameters import Catalogue, run_name
from flows.reports import started_run

KeepHours = Annotated[int, Field(ge=24, le=24 * 365)]


@flow(name="housekeeping", flow_run_name=lambda: run_name("housekeeping", ""), persist_result=False)
def housekeeping(catalogue: Catalogue = "", keep_hours: KeepHours = 168, deep: bool = True) -> dict[str, Any]:
    """Verify, compact small files, remove files that no kept version needs; fails on a fault.

    Args:
        catalogue: Folder of the catalogue; empty for FEATLAS_CATALOG of the worker, else ./catalogue
        keep_hours: Hours a file stays after no version needs it; more than the longest run takes
        deep: Read every file and check its checksums, not only lists, schema and keys
    """
    config_digest = digest({"keep_hours": keep_hours, "deep": deep})
    with started_run("housekeeping", None, catalogue, frozenset(), config_digest) as run:
        store = TableStore(run.context.root)
        _refuse_faults(
            store, deep=deep
        )  # before files are rewritten, which would hide what is wrong with them
        store.compact()
        removed = store.vacuum(older_than_seconds=keep_hours * 3600.0)
        _refuse_faults(store, deep=False)
    return run.summary() | {"n_removed": len(removed)}


def _refuse_faults(store: TableStore, *, deep: bool) -> None:
    faults = store.verify(deep=deep) + (damaged_shards(store) if deep else [])
    if faults:
        raise CatalogueError(f"{len(faults)} fault(s) in {store.root}: {'; '.join(faults[:5])}")
