"""Check the bytes of all files again, a share each night: readers do not notice flipped bits, checksums do.

DuckDB does not verify Parquet checksums, so a reader of a file with a flipped bit may silently get a wrong
number. ``scrub`` reads the units with the oldest check until the night's share is done;
``_catalogue/scrub.json`` records the day of each check.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from catalog.connection import read
from catalog.durable import replace_file, said_plainly
from catalog.errors import CatalogueError
from catalog.parquet_io import DataFile, hash_file
from catalog.schemas import TABLES
from catalog.snapshot import FOLDER, Snapshot, newest_snapshot
from catalog.soundness import content_fault
from catalog.untrusted import blob_folder, read_json

STATE = "scrub.json"
WEIGHTS = "sae_weights.safetensors"


@dataclass(frozen=True)
class Unit:
    """A unit whose bytes can be checked: a data file, weights, a set of shards."""

    name: str
    n_bytes: int
    check: Callable[[], Sequence[str]]


@dataclass(frozen=True)
class Scrub:
    """What a scrub read and found; ``oldest`` is the day of the oldest check of all units."""

    faults: list[str]
    n_read: int
    n_units: int
    n_bytes: int
    oldest: str

    def sentence(self, n_nights: int) -> str:
        """What was read, as text for people."""
        return (
            f"read {self.n_read:,} of {self.n_units:,} files ({self.n_bytes / 1e6:,.1f} MB) by checksum, "
            f"all files are read within {n_nights} nights, the oldest check is of {self.oldest}"
        )


def data_units(root: Path) -> list[Unit]:
    """All live data files of the newest version and the weights of its dictionaries."""
    snapshot = newest_snapshot(root)
    files = [(name, file) for name in TABLES for file in snapshot.files(name)]
    return [_data_unit(snapshot, name, file) for name, file in files] + _weights_units(root)


def scrub(root: Path, units: Sequence[Unit], n_nights: int) -> Scrub:
    """Read the night's share of ``units``: one ``n_nights``-th of all bytes, and always complete units.

    Raises:
        CatalogueError: when the record of checks cannot be written.
    """
    path = root / FOLDER / STATE
    read_on = _remembered(path)
    ordered = sorted(units, key=lambda unit: (read_on.get(unit.name, ""), unit.name))
    share = sum(unit.n_bytes for unit in units) / n_nights
    faults: list[str] = []
    n_read = n_bytes = 0
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    for unit in ordered:
        if n_read and (n_bytes >= share or read_on.get(unit.name) == today):
            break
        found = list(unit.check())
        faults += found
        if not found:
            read_on[unit.name] = today
        n_read += 1
        n_bytes += unit.n_bytes
    kept = {unit.name: read_on[unit.name] for unit in units if unit.name in read_on}
    with said_plainly("write to", root):
        replace_file(path, json.dumps(kept, indent=0, sort_keys=True).encode(), "scrub")
    oldest = f"on {min(kept.values())}" if units and len(kept) == len(units) else "never"
    return Scrub(faults, n_read, len(units), n_bytes, oldest)


def _data_unit(snapshot: Snapshot, table: str, file: DataFile) -> Unit:
    def check() -> list[str]:
        reason = content_fault(snapshot.root, file)
        return [] if reason is None else [f"{table}: {file.path} {reason}"]

    return Unit(file.path, file.n_bytes, check)


def _weights_units(root: Path) -> list[Unit]:
    query = "select weights_uri, weights_digest from dictionaries order by weights_uri"
    rows = read(lambda connection: connection.execute(query).fetchall(), root)
    return [_weights_unit(root, str(uri), str(digest)) for uri, digest in rows]


def _weights_unit(root: Path, uri: str, digest: str) -> Unit:
    path = blob_folder(root, uri, "the folder of a dictionary") / WEIGHTS
    name = f"{uri}/{WEIGHTS}"

    def check() -> list[str]:
        if not path.is_file():
            return [f"dictionaries: {name} is missing"]
        sound = hash_file(path) == digest
        return [] if sound else [f"dictionaries: {name} was altered: its SHA-256 is not the recorded one"]

    return Unit(name, path.stat().st_size if path.is_file() else 0, check)


def _remembered(path: Path) -> dict[str, str]:
    try:
        content = read_json(path)
    except (FileNotFoundError, CatalogueError):
        return {}
    return {str(k): str(v) for k, v in content.items()} if isinstance(content, dict) else {}
