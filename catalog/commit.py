"""The only way to write to the catalogue: all tables of a stage become visible together, or none does.

A commit holds one lock per catalogue. It writes a note (``_catalogue/pending.json``), moves the folders,
commits each table's log, creates ``_catalogue/N.json`` and deletes the note. If the next holder of the lock
finds a note whose N was never created, it moves the folders back. With or without a note, it takes a log
that is ahead of the newest N back to the version that N names. Data files of partitioned tables are written
before the lock is taken.
"""

import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from filelock import FileLock, Timeout

from catalog.changes import Change, replace_partitions, share_files
from catalog.delta_log import DeltaLog
from catalog.durable import flush_folder, make_folder, replace_file, said_plainly, to_json
from catalog.errors import CatalogueError
from catalog.folders import FolderMove, flush_tree, folder_move, move_in, settle
from catalog.ids import slug
from catalog.schemas import TABLES
from catalog.slices import SliceWrite, finished_rows
from catalog.snapshot import FOLDER, Snapshot, newest_snapshot, publish_snapshot, take_back_logs
from catalog.staging import Placed, Staged, discard, slice_rows, stage
from catalog.untrusted import count, read_json, refuse_links
from catalog.untrusted import folder_move as noted_move

logger = logging.getLogger(__name__)

LOCK_SECONDS = 300.0
PENDING = "pending.json"


@dataclass(frozen=True)
class CommitSizes:
    """What a commit will add: rows per table, and bytes of the files written for it."""

    rows: dict[str, int]
    n_bytes: int


@dataclass(frozen=True)
class Note:
    """A commit in progress: its id, the version it builds on, the folders it moves."""

    commit_id: str
    base: int
    folders: list[FolderMove]


@contextmanager
def commit_lock(root: Path) -> Iterator[Snapshot]:
    """Hold the catalogue's commit lock; undo what a crash left and yield the newest snapshot.

    Raises:
        CatalogueError: when the lock is not free within five minutes, or the folder must not be written to.
    """
    with said_plainly("write to", root):
        make_folder(root / FOLDER)
    try:
        with FileLock(str(root / FOLDER / "commit.lock"), timeout=LOCK_SECONDS):
            refuse_links(root)
            roll_back(root)
            newest = newest_snapshot(root)
            take_back_logs(newest)
            yield newest
    except Timeout as error:
        raise CatalogueError(
            f"another process has been committing to {root} for {LOCK_SECONDS:.0f} s; stop it or wait"
        ) from error


def commit(
    root: Path,
    writes: Sequence[SliceWrite],
    *,
    fingerprint: str,
    folders: Mapping[str, Path] | None = None,
    own_rows: Callable[[CommitSizes], Sequence[SliceWrite]] | None = None,
) -> tuple[Snapshot, CommitSizes]:
    """Publish ``writes`` as one catalogue version.

    Args:
        root: Folder of the catalogue.
        writes: Slices, several per table allowed.
        fingerprint: Recorded with every row.
        folders: Destination relative to the root → finished folder to move there, on the same disk.
        own_rows: Makes the ledger's own rows once the sizes are known.

    Raises:
        CatalogueError: when rows do not fit or a write fails; then nothing was published.
    """
    with said_plainly("write to", root):
        make_folder(root)
        staged = stage(root, writes, fingerprint)
        for source in (folders or {}).values():
            flush_tree(source)
        with commit_lock(root) as base:
            plan = _Plan(base, staged, fingerprint, dict(folders or {}))
            with _undone_on_failure(plan):
                return plan.execute(own_rows)


def commit_changes(
    root: Path,
    changes: Callable[[Snapshot], Sequence[Change]],
    reason: str,
    *,
    new_files: bool,
    folders: Mapping[str, Path] | None = None,
) -> Snapshot:
    """Publish only changes of files and folders; return the unchanged snapshot if no file changes.

    Args:
        root: Folder of the catalogue.
        changes: Says what to change, given the newest snapshot under the lock.
        reason: Recorded in the version, for people.
        new_files: Whether the added files were written for this commit, so that a failure deletes them.
        folders: Destination relative to the root → finished folder to move there, as for ``commit``.
    """
    for source in (folders or {}).values():
        flush_tree(source)
    with said_plainly("write to", root), commit_lock(root) as base:
        plan = _Plan(base, [], slug(reason), dict(folders or {}))
        plan.owns_files = new_files
        with _undone_on_failure(plan):
            plan.changes = [change for change in changes(base) if change.add or change.remove]
            return plan.publish() if plan.changes else base


def roll_back(root: Path) -> bool:
    """Undo what a commit that never created its N left; the caller must hold the commit lock.

    Returns:
        Whether there was anything to undo.

    Raises:
        CatalogueError: when the note is damaged or names an impossible move; then nothing was moved.
    """
    note = root / FOLDER / PENDING
    if not note.exists():
        return False
    pending = read_note(root)
    newest = newest_snapshot(root)
    committed = newest.commit_id == pending.commit_id
    if not committed:
        take_back_logs(newest)
    for folder in pending.folders:
        settle(root, folder, committed=committed)
    note.unlink()
    flush_folder(note.parent)
    return not committed


def read_note(root: Path) -> Note:
    """The note of the commit that was in progress.

    Raises:
        CatalogueError: when the note is damaged or names an impossible move.
    """
    path = root / FOLDER / PENDING
    content = read_json(path)
    folders = content.get("folders") if isinstance(content, dict) else None
    if not isinstance(folders, list):
        raise CatalogueError(f"{path} is damaged; run `featlas repair`")
    moves = [noted_move(root, move, path) for move in folders]
    return Note(str(content.get("commit_id")), count(content.get("base"), path), moves)


@contextmanager
def _undone_on_failure(plan: "_Plan") -> Iterator[None]:
    """Roll a failed commit back and delete its files, so that retries do not fill a full disk.

    An error during the roll-back is logged, and the next holder of the lock handles it; the caller gets the
    first error.
    """
    try:
        yield
    except BaseException:
        try:
            roll_back(plan.root)
        except (CatalogueError, OSError) as second:
            logger.warning("the commit in %s is rolled back later: %s", plan.root, second)
        if plan.owns_files and not plan.may_have_landed():
            discard(plan.root, [file for item in plan.staged for file in item.files])
            discard(plan.root, [file for change in plan.changes for file in change.add])
        raise


class _Plan:
    """One commit in progress, with the commit lock held."""

    def __init__(
        self, base: Snapshot, staged: Sequence[Staged], fingerprint: str, folders: dict[str, Path]
    ) -> None:
        self.base = base
        self.root = base.root
        self.staged = staged
        self.fingerprint = fingerprint
        self.commit_id = secrets.token_hex(8)
        self.folders = [folder_move(self.root, to, source) for to, source in folders.items()]
        self.changes: list[Change] = []
        self.owns_files = True
        self._log = cache(lambda table: DeltaLog(base.root, table))

    def execute(
        self, own_rows: Callable[[CommitSizes], Sequence[SliceWrite]] | None
    ) -> tuple[Snapshot, CommitSizes]:
        """Plan every table's change, add the ledger's rows, publish."""
        placed = self._plan_tables()
        rows: dict[str, int] = {}
        for item in self.staged:
            rows[item.write.table] = rows.get(item.write.table, 0) + item.n_rows
        sizes = CommitSizes(rows, sum(f.n_bytes for change in self.changes for f in change.add))
        own = list(own_rows(sizes)) if own_rows is not None else []
        if placed:
            described = slice_rows(placed, self.fingerprint, self.base.version + 1)
            self.changes.append(share_files(self.base, "slices", described))
        for write in own:
            own_table = pa.concat_tables(finished_rows(write, self.fingerprint))
            self.changes.append(share_files(self.base, write.table, own_table))
        return self.publish(), sizes

    def publish(self) -> Snapshot:
        """Write the note, move folders, commit logs, create N, delete the note."""
        self._note()
        for folder in self.folders:
            move_in(self.root, folder)
        properties = {"fingerprint": self.fingerprint, "commit_id": self.commit_id}
        tables = {
            change.table: self._log(change.table).commit(change.add, change.remove, properties)
            for change in self.changes
            if change.add or change.remove
        }
        for table in {item.write.table for item in self.staged} - set(tables):
            tables[table] = self._log(table).latest()
        snapshot = publish_snapshot(self.base, tables, self.fingerprint, self.commit_id)
        roll_back(self.root)
        return snapshot

    def may_have_landed(self) -> bool:
        """Whether this commit is the newest version, or that cannot be determined."""
        try:
            return newest_snapshot(self.root).commit_id == self.commit_id
        except (CatalogueError, OSError):
            return True

    def _plan_tables(self) -> list[Placed]:
        placed: list[Placed] = []
        by_table: dict[str, list[Staged]] = {}
        for item in self.staged:
            by_table.setdefault(item.write.table, []).append(item)
        for table, items in by_table.items():
            if TABLES[table].partition_by:
                merged = Change(table)
                for item in items:
                    change = replace_partitions(self.base, table, slug(item.write.subject), item.files)
                    merged.add += change.add
                    merged.remove += change.remove
                    placed.append((item, item.files))
                self.changes.append(merged)
            else:
                rows = pa.concat_tables([item.rows for item in items if item.rows is not None])
                subjects = [slug(item.write.subject) for item in items]
                change = share_files(self.base, table, rows, subjects)
                self.changes.append(change)
                placed += [(item, change.add) for item in items]
        return placed

    def _note(self) -> None:
        tables = {change.table for change in self.changes} | {item.write.table for item in self.staged}
        for table in sorted(tables):
            log, acknowledged = self._log(table), self.base.tables.get(table, 0)
            latest = log.ensure()
            if latest < acknowledged or not (log.is_whole(latest) and log.is_whole(acknowledged)):
                raise CatalogueError(
                    f"the log of table {table} lost its newest entries; run `featlas repair` before writing"
                )
            log.show(self.base.all_files(table), "taken back")
        note: dict[str, Any] = {"commit_id": self.commit_id, "base": self.base.version}
        note |= {"fingerprint": self.fingerprint, "tables": sorted(tables), "folders": self.folders}
        replace_file(self.root / FOLDER / PENDING, to_json(note), "note")
