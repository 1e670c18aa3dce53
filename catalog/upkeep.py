"""Maintenance: merge files, delete unused ones, restore an earlier version."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from catalog.changes import Change, merge_small
from catalog.commit import commit_changes, commit_lock
from catalog.connection import connect
from catalog.durable import TEMPORARY_PREFIX
from catalog.errors import CatalogueError
from catalog.leases import FOLDER as LEDGER_FOLDER
from catalog.leases import LeaseFile
from catalog.publish import publish_views
from catalog.schemas import TABLES
from catalog.snapshot import FILE_LISTS, FOLDER, Snapshot, read_snapshot, versions
from catalog.untrusted import BLOBS

KEEP_VERSIONS = 20
"""Several nights of commits can be restored."""
KEEP_SECONDS = 7 * 24 * 3600.0
"""Longer than any reader or stage works on one version."""
_UNKNOWN_BLOBS = "select 1 from damaged_files where table_name in ('activation_sets', 'dictionaries')"


def compact(root: Path) -> Snapshot:
    """Rewrite the small files of tables whose slices share files, and files of an older schema version.

    One version of the catalogue gets the same rows in fewer files; readers notice no difference.
    """
    snapshot = commit_changes(
        root,
        lambda base: [merge_small(base, table) for table in base.tables if table in TABLES],
        "compaction",
        new_files=True,
    )
    publish_views(snapshot)
    return snapshot


def restore(root: Path, version: int) -> Snapshot:
    """A new version with exactly the rows of an old one; folders of shards and weights do not change.

    Raises:
        CatalogueError: when that version is unknown or ``vacuum`` removed files of it.
    """
    old = read_snapshot(root, version)

    def changes(base: Snapshot) -> list[Change]:
        return [_back(base, old, table) for table in base.tables if table in TABLES]

    snapshot = commit_changes(root, changes, f"restore of version {version}", new_files=False)
    publish_views(snapshot)
    return snapshot


def vacuum(
    root: Path, *, keep_versions: int = KEEP_VERSIONS, older_than_seconds: float = KEEP_SECONDS
) -> list[str]:
    """Delete what no kept version needs and no process can still be writing.

    Args:
        root: Folder of the catalogue.
        keep_versions: Newest versions that stay readable.
        older_than_seconds: Only older files are deleted. Choose more than the longest run takes,
            because no version contains a running stage's files yet.

    Returns:
        What was deleted, relative to the catalogue.
    """
    deleted: list[str] = []
    horizon = time.time() - older_than_seconds
    with commit_lock(root) as newest:
        kept = [read_snapshot(root, version) for version in versions(root)[-keep_versions:]] or [newest]
        for path in _dead_files(root, kept):
            if path.stat().st_mtime < horizon:
                path.unlink()
                deleted.append(path.relative_to(root).as_posix())
        for folder in (*_dead_blobs(root, kept), *_dead_scratch(root)):
            if folder.stat().st_mtime < horizon:
                shutil.rmtree(folder)
                deleted.append(folder.relative_to(root).as_posix())
    return deleted


def _back(base: Snapshot, old: Snapshot, table: str) -> Change:
    now = {file.path: file for file in base.files(table)}
    then = {file.path: file for file in old.files(table)}
    lost = [path for path in then if not (base.root / path).is_file()]
    if lost:
        raise CatalogueError(
            f"version {old.version} cannot be restored: {lost[0]} and {len(lost) - 1} other files are gone"
        )
    return Change(
        table,
        [file for path, file in then.items() if path not in now],
        [file for path, file in now.items() if path not in then],
    )


def _dead_files(root: Path, kept: list[Snapshot]) -> Iterator[Path]:
    live = {file.path for snapshot in kept for table in snapshot.tables for file in snapshot.all_files(table)}
    for table in TABLES:
        for path in (root / table).rglob("*.parquet"):
            if path.parent.name != "_delta_log" and path.relative_to(root).as_posix() not in live:
                yield path
    for folder in (root, root / FOLDER, root / LEDGER_FOLDER):
        yield from folder.glob(f"{TEMPORARY_PREFIX}*")
    named = {(table, number) for snapshot in kept for table, number in snapshot.tables.items()}
    for path in (root / FOLDER / FILE_LISTS).glob("*/*.json"):
        if path.stem.isdigit() and (path.parent.name, int(path.stem)) not in named:
            yield path
    numbers = {snapshot.version for snapshot in kept}
    for version in versions(root):
        if version not in numbers:
            yield root / FOLDER / f"{version}.json"


def _dead_blobs(root: Path, kept: list[Snapshot]) -> Iterator[Path]:
    """Folders of shards and weights that no kept version names."""
    named: set[str] = set()
    for snapshot in {
        (s.tables.get("activation_sets"), s.tables.get("dictionaries")): s for s in kept
    }.values():
        with connect(root, snapshot=snapshot) as connection:
            if connection.execute(_UNKNOWN_BLOBS).fetchone():
                return  # it is unknown which folders their rows name
            rows = connection.execute(
                "select uri from activation_sets union select weights_uri from dictionaries"
            ).fetchall()
        named |= {str(uri).rstrip("/") for (uri,) in rows}
    for folder in (root / BLOBS).glob("*/*"):
        name = folder.relative_to(root).as_posix()
        if folder.is_dir() and not any(uri == name or uri.startswith(f"{name}/") for uri in named):
            yield folder


def _dead_scratch(root: Path) -> Iterator[Path]:
    """Working folders whose unit has no live lease."""
    for folder in (root / "_scratch").glob("*"):
        if folder.is_dir() and not LeaseFile(root, folder.name).read().is_live():
            yield folder
