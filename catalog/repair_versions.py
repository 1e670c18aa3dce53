"""Find the newest version of the catalogue when its file or the copy of it is lost or damaged."""

import secrets
from datetime import UTC, datetime
from pathlib import Path

from catalog.commit import PENDING, read_note
from catalog.delta_log import DeltaLog
from catalog.durable import flush_folder, make_folder, replace_file
from catalog.errors import CatalogueError
from catalog.schemas import TABLES
from catalog.snapshot import (
    FOLDER,
    NEWEST,
    Snapshot,
    newest_copy,
    put_back,
    read_snapshot,
    replace_snapshot,
    versions,
)

DAMAGED = "damaged"


def mend_snapshot(root: Path) -> tuple[Snapshot, list[str]]:
    """The newest version, and what was done for it; the caller must hold the commit lock.

    A lost or damaged version is restored from its copy; without a copy it is rebuilt from the logs. If the
    data
    of a lost version is missing too, as in a copy of a folder that was being written to, the newest complete
    version replaces it.
    """
    done: list[str] = []
    damaged = 0
    newest = Snapshot(root)
    for version in reversed(versions(root)):
        try:
            newest = read_snapshot(root, version)
            break
        except CatalogueError:
            damaged = max(damaged, version)
            done.append(aside(root, root / FOLDER / f"{version}.json"))
    copy = newest_copy(root)
    copy_path = root / FOLDER / NEWEST
    if copy is None and copy_path.exists():
        done.append(aside(root, copy_path))
    if copy is not None and copy.version >= max(damaged, newest.version + 1):
        if _n_lost(copy) and not _n_lost(newest) and not damaged:
            done.append(aside(root, copy_path))
            said = f"the data of version {copy.version} is missing: went back to version {newest.version}"
            return _copied(newest), [*done, said]
        put_back(copy, copy_path.read_bytes())
        return copy, [*done, f"put back version {copy.version} from its copy"]
    if damaged:
        note = read_note(root) if (root / FOLDER / PENDING).exists() else None
        base = Snapshot(root, damaged - 1, newest.tables, lists={})
        unfinished = note.commit_id if note is not None and note.base == damaged else None
        commit_id = note.commit_id if note is not None and note.base < damaged else secrets.token_hex(8)
        rebuilt = replace_snapshot(base, _logged(newest, unfinished), "repair", commit_id)
        return rebuilt, [*done, f"rebuilt version {rebuilt.version} from the tables' logs"]
    if copy is not None and copy.version == newest.version and copy.commit_id != newest.commit_id:
        done.append(aside(root, copy_path))
    if newest.lists and (done or copy is None or copy.version < newest.version):
        done.append(f"renewed the copy of version {newest.version}")
        _copied(newest)
    return newest, done


def aside(root: Path, path: Path) -> str:
    """Move a damaged file to ``_catalogue/damaged``; return what was done."""
    folder = root / FOLDER / DAMAGED
    make_folder(folder)
    name = path.relative_to(root).as_posix()
    path.rename(
        folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}-{name.replace('/', '-')}"[:240]
    )
    flush_folder(path.parent)
    return f"moved {name} aside: it was damaged"


def _copied(newest: Snapshot) -> Snapshot:
    """``newest`` with a fresh copy of its file."""
    if newest.version:
        content = (newest.root / FOLDER / f"{newest.version}.json").read_bytes()
        replace_file(newest.root / FOLDER / NEWEST, content, "newest")
    return newest


def _n_lost(snapshot: Snapshot) -> int:
    """Live files of a version that are missing; all of a table's if its list cannot be read."""
    n_lost = 0
    for table in snapshot.tables:
        try:
            files = snapshot.all_files(table)
        except CatalogueError:
            n_lost += 1
            continue
        n_lost += sum(not (snapshot.root / file.path).is_file() for file in files)
    return n_lost


def _logged(before: Snapshot, unfinished: str | None) -> dict[str, int]:
    """Newest versions of the logs, without the entries of an unfinished commit."""
    tables = dict(before.tables)
    for name in TABLES:
        log = DeltaLog(before.root, name)
        if not log.exists():
            continue
        version = log.latest()
        while version > before.tables.get(name, 0) and unfinished and log.commit_id(version) == unfinished:
            version -= 1
        tables[name] = version
    return tables
