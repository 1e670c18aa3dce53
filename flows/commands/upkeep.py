"""``featlas verify`` and ``featlas repair``."""

from catalog.connection import connect
from catalog.errors import UserError
from catalog.settings import catalogue_root
from catalog.store import TableStore


def verify_command(catalogue: str | None, *, deep: bool) -> int:
    """Print one line per fault; 0 when there is none, else 1."""
    store = _store(catalogue)
    faults = store.verify(deep=deep) + (damaged_shards(store) if deep else [])
    for fault in faults:
        print(fault)
    if not faults:
        print(f"{store.root}: no fault found{' (every file read)' if deep else ''}")
    return 1 if faults else 0


def damaged_shards(store: TableStore) -> list[str]:
    """One line per activation shard whose bytes are not the recorded ones."""
    from tasks.activations.shards import ActivationSet

    with connect(store.root) as connection:
        uris = [
            uri for (uri,) in connection.execute("select uri from activation_sets order by uri").fetchall()
        ]
    folders = [store.root / uri for uri in uris if (store.root / uri).is_dir()]
    return [fault for folder in folders for fault in ActivationSet.open(folder).verify()]


def repair_command(catalogue: str | None) -> int:
    """Mend what can be mended and say what was done; 0 when nothing is left broken."""
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
