"""``featlas repair``: repair the effects of a power cut or a bad disk, without a silent loss of a version.

The newest ``_catalogue/N.json`` and the stored file lists say which files were acknowledged; data files are
on disk before any of them. A damaged end of a log is moved aside, and the acknowledged files are committed
again on top of the intact part. Without a file list, the footers of files identify them. Moved files are in
``_catalogue/damaged``.
"""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from catalog.commit import LOCK_SECONDS, PENDING, read_note, roll_back
from catalog.delta_log import DeltaLog, is_entry
from catalog.durable import said_plainly
from catalog.errors import CatalogueError
from catalog.parquet_io import DataFile
from catalog.publish import publish_views
from catalog.repair_files import set_damaged_files_aside
from catalog.repair_versions import aside, mend_snapshot
from catalog.schemas import TABLES
from catalog.snapshot import (
    FOLDER,
    Snapshot,
    file_list_path,
    kept_file_list,
    newest_snapshot,
    replace_snapshot,
    take_back_logs,
)
from catalog.untrusted import refuse_links

N_CHECKED = 200


def repair(root: Path) -> list[str]:
    """Repair the catalogue; return what was done, one line each.

    Raises:
        CatalogueError: when the folder is not one that featlas may write to.
    """
    if not (root / FOLDER).is_dir():
        return []
    with said_plainly("repair", root), FileLock(str(root / FOLDER / "commit.lock"), timeout=LOCK_SECONDS):
        refuse_links(root)
        done = _mend_note(root)
        newest, said = mend_snapshot(root)
        done += said
        moved: dict[str, int] = {}
        for table in sorted({*newest.tables, *(t for t in TABLES if DeltaLog(root, t).log_folder.is_dir())}):
            said, version = _mend_log(root, table, newest)
            done += said
            if said and table in newest.tables:
                moved[table] = version
        taken = take_back_logs(newest)
        done += [
            f"{table}: took the log back to version {newest.version} of the catalogue" for table in taken
        ]
        if (root / FOLDER / PENDING).exists() and roll_back(root):
            done.append("rolled back an interrupted commit")
        if moved:
            newest = replace_snapshot(newest, {**newest.tables, **moved}, "repair", secrets.token_hex(8))
            done.append(f"published version {newest.version} with the acknowledged files")
    done += set_damaged_files_aside(root)
    if publish_views(newest_snapshot(root)):
        done.append("published catalogue.sql and catalogue.duckdb")
    return done


def _mend_note(root: Path) -> list[str]:
    """Move aside a note that no commit writes, for it is worthless; the logs are compared with N instead."""
    note = root / FOLDER / PENDING
    if not note.exists():
        return []
    try:
        read_note(root)
    except CatalogueError:
        return [aside(root, note)]
    return []


def _mend_log(root: Path, table: str, newest: Snapshot) -> tuple[list[str], int]:
    """Make the log of one table readable, with the acknowledged files."""
    log = DeltaLog(root, table)
    acknowledged = newest.tables.get(table, 0)
    if table not in newest.tables and not log.exists():
        return [], 0
    bad = _first_bad_entry(log.log_folder, acknowledged)
    if bad is None and _opens(log, acknowledged):
        return [], acknowledged
    digest = newest.lists.get(table)
    wanted = kept_file_list(root, table, acknowledged, digest) if table in newest.tables else []
    done = []
    if bad is None:
        bad = max(acknowledged, log.newest_entry())
    while True:
        done += [aside(root, path) for path in _tail(log.log_folder, bad)]
        if not log.exists() or bad <= 0 or _opens(log, None):
            break
        bad -= 1
    for path in file_list_path(root, table, 0).parent.glob("*.json"):
        if path.stem.isdigit() and int(path.stem) >= bad:
            path.unlink()
    log.ensure()
    present = {file.path: file for file in log.files(log.latest())}
    if wanted is None:
        wanted = _files_by_footer(root, table, present)
    log.show(wanted, "repair")
    return [*done, f"{table}: rebuilt the log with {len(wanted)} acknowledged files"], log.latest()


def _first_bad_entry(folder: Path, acknowledged: int) -> int | None:
    """Lowest version up to the newest whose log entry is missing, empty or truncated."""
    numbers = {int(path.stem): path for path in folder.glob("*.json") if path.stem.isdigit()}
    highest = max([acknowledged, *numbers])
    for version in range(max(min(numbers, default=0), highest - N_CHECKED), highest + 1):
        path = numbers.get(version)
        if path is None or not is_entry(path):
            return version
    return None


def _opens(log: DeltaLog, version: int | None) -> bool:
    """Whether the log yields the files of a version, by default the newest."""
    if not log.exists():
        return False
    try:
        latest = log.latest()
        log.files(latest if version is None else version)
        return version is None or latest >= version
    except CatalogueError:
        return False


def _tail(folder: Path, bad: int | None) -> Iterator[Path]:
    """The damaged entry and everything after it; always the checkpoints, which only speed up reading."""
    for path in sorted(folder.glob("*")):
        number = path.name.partition(".")[0]
        if "checkpoint" in path.name or (bad is not None and number.isdigit() and int(number) >= bad):
            yield path


def _files_by_footer(root: Path, table: str, present: dict[str, DataFile]) -> list[DataFile]:
    """The files that must have been live: the newest of every partition, or all rows of shared files.

    In an unpartitioned table a file counts unless a newer file repeats its rows.
    """
    spec = TABLES[table]
    found: dict[Path, DataFile] = {}
    for path in (root / table).rglob("v*.parquet"):
        if path.parent.name == "_delta_log":
            continue
        try:
            footer = pq.read_metadata(path)
        except (OSError, pa.ArrowException):
            continue
        partition = json.loads((footer.metadata or {}).get(b"featlas.partition", b"{}"))
        name = path.relative_to(root).as_posix()
        found[path] = DataFile(name, footer.num_rows, path.stat().st_size, partition)
    by_age = sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    wanted: list[DataFile] = []
    seen_partitions: set[str] = set()
    seen_keys: set[tuple[object, ...]] = set()
    for path in by_age:
        file = found[path]
        if spec.partition_by:
            text = json.dumps(file.partition, sort_keys=True)
            if text not in seen_partitions:
                wanted.append(file)
            seen_partitions.add(text)
            continue
        columns = pq.read_table(path, columns=list(spec.key), partitioning=None).to_pydict()
        keys = set(zip(*columns.values(), strict=True))
        if file.path in present or not keys <= seen_keys:
            wanted.append(file)
        seen_keys |= keys
    return wanted
