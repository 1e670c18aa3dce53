"""``featlas verify`` and ``featlas repair``."""

from functools import partial
from pathlib import Path

from catalog.connection import read
from catalog.errors import UserError
from catalog.queries import activation_folders
from catalog.scrub import Unit
from catalog.settings import catalogue_root
from catalog.store import TableStore
from catalog.untrusted import blob_folder


def verify_command(catalogue: str | None, *, deep: bool) -> int:
    """Print one line per fault; return 0 if there is none, else 1."""
    store = _store(catalogue)
    faults = store.verify(deep=deep) + (damaged_shards(store) if deep else [])
    for fault in faults:
        print(fault)
    if not faults:
        print(f"{store.root}: no fault found{' (every file read)' if deep else ''}")
    return 1 if faults else 0


def damaged_shards(store: TableStore) -> list[str]:
    """One line per activation shard whose bytes differ from the recorded digest."""
    return [fault for unit in shard_units(store) for fault in unit.check()]


def shard_units(store: TableStore) -> list[Unit]:
    """The folders of activation sets that exist, to be checked against the digests of their shards."""
    from tasks.activations.reading.shards import ActivationSet

    rows = read(lambda connection: activation_folders().read(connection).to_pylist(), store.root)

    def check(folder: Path) -> list[str]:
        try:
            return ActivationSet.open(folder).verify()
        except UserError as error:
            return [str(error)]

    units: list[Unit] = []
    for row in rows:
        folder = blob_folder(store.root, row["uri"], "the folder of an activation set")
        if folder.is_dir():
            units.append(Unit(row["uri"], int(row["n_bytes"]), partial(check, folder)))
    return units


def repair_command(catalogue: str | None) -> int:
    """Repair what can be repaired and print what was done; return 0 if nothing is left broken."""
    store = _store(catalogue)
    for line in store.repair() or ["nothing to repair"]:
        print(line)
    return 1 if store.verify(deep=False) else 0


def _store(catalogue: str | None) -> TableStore:
    root = catalogue_root(catalogue)
    if not root.is_dir():
        raise UserError(
            f"there is no catalogue at {root}: run `featlas run demo`, or name one with --catalog"
        )
    return TableStore(root)
