"""Keep a catalogue small and intact: compact files, remove unused ones, verify."""

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from catalog.errors import CatalogueError
from catalog.ids import digest
from catalog.scrub import data_units, scrub
from catalog.store import TableStore
from flows.commands.upkeep import shard_units
from flows.parameters import Catalogue, run_name
from flows.reports import started_run

ScrubNights = Annotated[int, Field(ge=1, le=365)]
KeepHours = Annotated[int, Field(ge=24, le=24 * 365)]


@flow(name="housekeeping", flow_run_name=lambda: run_name("housekeeping", ""), persist_result=False)
def housekeeping(
    catalogue: Catalogue = "", keep_hours: KeepHours = 168, deep: bool = False, scrub_nights: ScrubNights = 28
) -> Any:
    """Verify, read a share of all files, compact small files, remove unused ones; fail on a fault.

    Args:
        catalogue: Folder of the catalogue; empty for FEATLAS_CATALOG of the worker, else ./catalogue
        keep_hours: Hours to keep a file that no version needs; more than the longest run takes
        deep: Check the checksums of every file tonight, not only of the night's share
        scrub_nights: Number of nights in which the checksums of all files are checked once
    """
    config_digest = digest({"keep_hours": keep_hours, "deep": deep, "scrub_nights": scrub_nights})
    with started_run("housekeeping", None, catalogue, frozenset(), config_digest) as run:
        store = TableStore(run.context.root)
        before = _files(store)
        _refuse_faults(store, deep=deep)  # before rewriting files hides what is wrong with them
        run.say(f"verified {_amount(before)}, {'every byte' if deep else 'lists and schemas'}")
        read = scrub(store.root, [*data_units(store.root), *shard_units(store)], 1 if deep else scrub_nights)
        _refuse(store, read.faults)
        run.say(read.sentence(1 if deep else scrub_nights))
        store.compact()
        after = _files(store)
        run.say(f"compacted {len(before - after):,} files to {len(after - before):,}")
        removed = store.vacuum(older_than_seconds=keep_hours * 3600.0)
        run.say(f"removed {len(removed):,} files and folders")
        _refuse_faults(store, deep=False)
        run.facts["n_removed"] = len(removed)
    return run.result()


def _files(store: TableStore) -> set[tuple[str, int]]:
    """The live data files of all tables, each with its size in bytes."""
    snapshot = store.snapshot()
    return {(file.path, file.n_bytes) for table in snapshot.tables for file in snapshot.all_files(table)}


def _amount(files: set[tuple[str, int]]) -> str:
    return f"{len(files):,} files of {sum(n_bytes for _, n_bytes in files) / 1e6:,.1f} MB"


def _refuse_faults(store: TableStore, *, deep: bool) -> None:
    _refuse(store, store.verify(deep=deep))


def _refuse(store: TableStore, faults: list[str]) -> None:
    if faults:
        raise CatalogueError(f"{len(faults)} fault(s) in {store.root}: {'; '.join(faults[:5])}")
