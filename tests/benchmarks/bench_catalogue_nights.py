"""Connecting and committing after many simulated nights.

Each night publishes a run twice (running, completed) and commits one stage that trains a new dictionary:
rows in dictionaries, features and explanations. Nothing is compacted by hand. To build the nights faster,
flushing to disk and the publishing of the views are left out until a night is measured.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from catalog.connection import connect
from catalog.ledger import Ledger
from catalog.slices import SliceWrite
from catalog.store import TableStore, publish_rows

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "catalog"))
import small

NIGHTS = 1_000
REPEATS = 9
HEADER = (
    "| nights | files | connect ms (processor ms) | first query ms | finished stage found ms | commit ms |",
    "|--|--|--|--|--|--|",
)


def main(nights: int = NIGHTS) -> str:
    """Simulate the nights in a temporary folder and report the figures at 10 nights and at the end."""
    folder = Path(tempfile.mkdtemp(prefix="featlas-nights-"))
    lines = list(HEADER)
    try:
        root = folder / "catalogue"
        for night in range(1, nights + 1):
            if night in {10, nights}:
                lines.append(_figures(root, night))
                continue
            with (
                mock.patch.object(os, "fsync"),
                mock.patch("catalog.claims.publish_views"),
                mock.patch("catalog.store.publish_views"),
            ):
                _night(root, night)
    finally:
        shutil.rmtree(folder)
    return "\n".join(lines)


def _night(root: Path, night: int) -> float:
    """One night; returns the seconds of its stage's commit."""
    for state in ("running", "completed"):
        write = SliceWrite("runs", f"r{night}", small.run(f"r{night}", state))
        publish_rows(root, [write], fingerprint=f"run-{night}")
    name = _name(night)
    slices = [
        SliceWrite("dictionaries", name, small.dictionary(name)),
        SliceWrite("features", name, small.features(dictionary_id=name)),
        SliceWrite("explanations", name, small.explanations(night, dictionary_id=name)),
    ]
    with Ledger(root).claim("train", 1, name, {"night": night}, [], run_id=f"r{night}") as claim:
        started = time.perf_counter()
        claim.commit(slices, facts={"dictionary_id": name})
        return time.perf_counter() - started


def _name(night: int) -> str:
    return f"pico-a/blocks.2.resid_post/topk-{night:08x}"


def _figures(root: Path, night: int) -> str:
    committing = _night(root, night)
    connecting, processing, asking, finding = [], [], [], []
    for _ in range(REPEATS):
        started, busy = time.perf_counter(), time.process_time()
        connection = connect(root)
        connecting.append(time.perf_counter() - started)
        processing.append(time.process_time() - busy)
        started = time.perf_counter()
        connection.execute("select count(*), max(score) from feature_cards").fetchall()
        asking.append(time.perf_counter() - started)
        started = time.perf_counter()
        with Ledger(root).claim("train", 1, _name(night), {"night": night}, []) as claim:
            assert claim.done is not None
        finding.append(time.perf_counter() - started)
    store = TableStore(root)
    n_files = sum(len(store.files(table)) for table in store.snapshot().tables)
    connect_ms, busy_ms, ask_ms, find_ms = (
        statistics.median(values) * 1000 for values in (connecting, processing, asking, finding)
    )
    return (
        f"| {night} | {n_files} | {connect_ms:.0f} ({busy_ms:.0f}) | {ask_ms:.0f} | {find_ms:.0f} | "
        f"{committing * 1000:.0f} |"
    )


if __name__ == "__main__":
    print(main(int(sys.argv[1]) if len(sys.argv) > 1 else NIGHTS))
