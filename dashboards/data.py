"""The data of the pages: the only place with caches, keyed by the catalogue's version.

A commit creates a new version, so caches need no invalidation; entries of old versions are dropped by number.
Every call takes a new cursor from the one engine of a version and fetches all rows.
"""

import shlex
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import streamlit as st

from catalog import queries
from catalog.connection import connect, prepare
from catalog.damage import naming_damaged_files
from catalog.ids import slug
from catalog.query import Query
from catalog.resolve import resolve_dictionary
from catalog.runs import crash_of, stages_at_work
from catalog.schemas import feature_block
from catalog.settings import CatalogSettings, catalogue_root
from catalog.snapshot import Snapshot, newest_snapshot, read_snapshot

Row = dict[str, Any]
ENGINES_KEPT = 2
RESULTS_KEPT = 400


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The catalogue as one run of a page sees it: a folder and a version."""

    root: str
    version: int
    committed_at: datetime | None

    @property
    def empty(self) -> bool:
        """Whether nothing was ever published."""
        return self.version == 0


def current() -> Catalogue:
    """The newest version of the catalogue that this server shows."""
    root = catalogue_root(None)
    snapshot = newest_snapshot(root)
    return Catalogue(str(root), snapshot.version, snapshot.committed_at)


def catalog_option(catalogue: Catalogue) -> str:
    """The option with which a command in a shell finds this catalogue; empty for the default one."""
    default = CatalogSettings.model_fields["catalog"].default
    is_default = Path(catalogue.root) == catalogue_root(default)
    return "" if is_default else f" --catalog {shlex.quote(catalogue.root)}"


@st.cache_resource(max_entries=ENGINES_KEPT, show_spinner=False)
def _engine(root: str, version: int) -> duckdb.DuckDBPyConnection:
    connection = connect(snapshot=_snapshot(root, version))
    prepare(connection)
    return connection


def _snapshot(root: str, version: int) -> Snapshot:
    folder = catalogue_root(root)
    return read_snapshot(folder, version) if version else Snapshot(folder)


def read(root: str, version: int, query: Query) -> list[Row]:
    """Rows of one query, from a new cursor."""
    cursor = _engine(root, version).cursor()
    try:
        return list(query.read(cursor).to_pylist())
    finally:
        cursor.close()


@st.cache_data(max_entries=RESULTS_KEPT, show_spinner=False)
def _rows(root: str, version: int, query: Query) -> list[Row]:
    return read(root, version, query)


def rows(catalogue: Catalogue, query: Query) -> list[Row]:
    """Rows of a query, cached for this version of the catalogue.

    If housekeeping removed a file between two reads, the query runs once more on the newest version.
    """
    with naming_damaged_files(catalogue_root(catalogue.root)):
        try:
            return _rows(catalogue.root, catalogue.version, query)
        except duckdb.IOException:
            _engine.clear()
            return _rows(catalogue.root, current().version, query)


def one(catalogue: Catalogue, query: Query) -> Row | None:
    """The first row of a query, or ``None``."""
    found = rows(catalogue, query)
    return found[0] if found else None


def runs(catalogue: Catalogue, limit: int) -> list[Row]:
    """Runs, newest first; a run whose process is gone is shown as crashed even before a run records that."""
    return [_as_it_stands(catalogue, row) for row in rows(catalogue, queries.runs(limit=limit))]


def at_work(catalogue: Catalogue, run_id: str) -> list[Row]:
    """Stages of a run that are in progress; not cached, because they are not part of a version."""
    return [asdict(stage) for stage in stages_at_work(catalogue_root(catalogue.root), run_id)]


def _as_it_stands(catalogue: Catalogue, run: Row) -> Row:
    crash = crash_of(catalogue_root(catalogue.root), run["run_id"]) if run["state"] == "running" else None
    if crash is None:
        return run
    return {**run, "state": "crashed", "finished_at": crash.last_seen_at, "error": crash.reason}


@st.cache_data(max_entries=RESULTS_KEPT, show_spinner=False)
def _resolved(root: str, version: int, name: str) -> str:
    cursor = _engine(root, version).cursor()
    try:
        return resolve_dictionary(cursor, name)
    finally:
        cursor.close()


def dictionary_id(catalogue: Catalogue, name: str) -> str:
    """The dictionary that an id or alias refers to.

    Raises:
        UserError: naming the closest known names, if there is none.
    """
    with naming_damaged_files(catalogue_root(catalogue.root)):
        return _resolved(catalogue.root, catalogue.version, name)


@st.cache_data(max_entries=RESULTS_KEPT, show_spinner=False)
def _block_files(root: str, version: int, dictionary: str, block: int) -> list[str]:
    return _snapshot(root, version).paths("examples", dictionary_slug=slug(dictionary), feature_block=block)


def example_files(catalogue: Catalogue, dictionary: str, feature_index: int) -> tuple[str, ...]:
    """The intact files that hold the examples of a feature: those of its block only."""
    block = feature_block(feature_index)
    files = _block_files(catalogue.root, catalogue.version, dictionary, block)
    damaged = tuple(row["path"] for row in rows(catalogue, queries.damage()))
    return tuple(path for path in files if not path.endswith(damaged))


def examples(catalogue: Catalogue, dictionary: str, activation_set: str, feature_index: int) -> list[Row]:
    """The mined contexts of a feature; empty if none were mined."""
    files = example_files(catalogue, dictionary, feature_index)
    if not files:
        return []
    return rows(
        catalogue,
        queries.feature_examples(
            dictionary_id=dictionary,
            activation_set_id=activation_set,
            feature_index=feature_index,
            files=files,
        ),
    )
