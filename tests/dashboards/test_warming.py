"""Every version is read once, ahead of the first page that shows it."""

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from catalog import queries
from catalog.query import Query
from dashboards import data, warming


def _until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_a_version_is_warmed_once_and_its_pages_read_nothing_twice(
    catalogue: Path, tmp_path: Path, synthetic: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "catalogue"
    shutil.copytree(catalogue, root)
    monkeypatch.setenv("FEATLAS_CATALOG", str(root))
    monkeypatch.setattr(warming, "SECONDS", 0.05)
    reads: list[tuple[int, Query]] = []
    read = data.read

    def counted(root: str, version: int, query: Query) -> list[data.Row]:
        reads.append((version, query))
        return read(root, version, query)

    monkeypatch.setattr(data, "read", counted)
    ended = threading.Event()
    thread = threading.Thread(target=warming.keep_warm, args=(ended,), daemon=True)
    thread.start()
    try:
        first = data.current()
        _until(lambda: len(reads) == len(warming.FIRST))
        data.rows(first, queries.dictionaries())
        synthetic.publish_run(root, "the next", "completed", synthetic.NIGHT.replace(day=23))
        second = data.current()
        _until(lambda: len(reads) == 2 * len(warming.FIRST))
        data.rows(second, queries.dictionaries())
    finally:
        ended.set()
        thread.join(30)
    assert reads == [(v, query) for v in (first.version, second.version) for query in warming.FIRST]


def test_a_catalogue_that_cannot_be_read_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATLAS_CATALOG", str(tmp_path / "no*folder"))
    ended = threading.Event()
    ended.set()
    warming.keep_warm(ended)
