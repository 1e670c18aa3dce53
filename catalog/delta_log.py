"""The Delta log of one table, used as a manifest: the files of each version.

Only ``create``, ``add_columns`` and ``create_write_transaction`` of delta-rs write, and delta-rs reads no
data. delta-rs does not flush to disk, so this module flushes every commit.
"""

import errno
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.durable import flush_file, flush_folder, make_folder
from catalog.errors import CatalogueError
from catalog.faults import fault_point
from catalog.parquet_io import DataFile
from catalog.schemas import TABLES
from catalog.untrusted import data_file

if TYPE_CHECKING:
    from deltalake import DeltaTable

N_ATTEMPTS = 8
LOG_FOLDER = "_delta_log"
_ENTRY = re.compile(r"\d{20}\.json")


class DeltaLog:
    """The log of one table below a catalogue root.

    Every call sees all earlier writes: `show` and `commit` reuse the log that `ensure` opened and read only
    the new entries; the other calls open the log again.
    """

    def __init__(self, root: Path, table: str) -> None:
        self.table = table
        self.folder = root / table
        self.log_folder = self.folder / LOG_FOLDER
        self._opened: DeltaTable | None = None

    def exists(self) -> bool:
        """Whether the table was ever created."""
        return any(self.log_folder.glob("*.json"))

    def latest(self) -> int:
        """Newest version in the log, committed to the catalogue or not."""
        return int(self._open().version())

    def files(self, version: int) -> list[DataFile]:
        """Live data files at ``version``, in the order of their paths."""
        return self._files(self._open(version))

    def _files(self, opened: "DeltaTable") -> list[DataFile]:
        from pyarrow import table as to_arrow

        actions = to_arrow(opened.get_add_actions(flatten=False)).to_pylist()
        files = [
            data_file(
                f"{self.table}/{action['path']}",
                action["num_records"] or 0,
                action["size_bytes"],
                action.get("partition") or {},
                table=self.table,
                where=self.log_folder,
            )
            for action in actions
        ]
        return sorted(files, key=lambda file: file.path)

    def newest_entry(self) -> int:
        """Number of the newest entry by its name, -1 if there is none; faster than opening the log."""
        try:
            names = os.listdir(self.log_folder)
        except FileNotFoundError:
            return -1
        return max((int(name[:20]) for name in names if _ENTRY.fullmatch(name)), default=-1)

    def show(self, wanted: Sequence[DataFile], reason: str) -> bool:
        """Make the newest version hold exactly ``wanted``; return whether that changed anything."""
        wanted_paths = {file.path for file in wanted}
        present = {file.path: file for file in self._files(self._newest())}
        add = [file for file in wanted if file.path not in present]
        remove = [file for path, file in present.items() if path not in wanted_paths]
        if add or remove:
            self.commit(add, remove, {"fingerprint": reason})
        return bool(add or remove)

    def commit_id(self, version: int) -> str | None:
        """The commit of the catalogue that wrote the entry of ``version``, if the entry says so."""
        try:
            lines = (self.log_folder / f"{version:020d}.json").read_bytes().splitlines()
            infos = [entry["commitInfo"] for line in lines if "commitInfo" in (entry := json.loads(line))]
        except (OSError, ValueError, TypeError):
            return None
        return next((str(info["commit_id"]) for info in infos if "commit_id" in info), None)

    def ensure(self) -> int:
        """Create the table (version 0, no files) or add missing columns; return the newest version."""
        from deltalake import DeltaTable, Schema

        spec = TABLES[self.table]
        if not self.exists():
            make_folder(self.log_folder)
            with plain_errors(self.log_folder):
                DeltaTable.create(
                    str(self.folder),
                    spec.schema,
                    mode="ignore",
                    partition_by=list(spec.partition_by),
                    description=spec.row,
                    configuration={"delta.enableExpiredLogCleanup": "false"},
                )
            self._flush()
        table = self._open()
        known = {field.name for field in table.schema().fields}
        if any(column.name not in known for column in spec.columns):
            wanted = Schema.from_arrow(spec.schema)
            with plain_errors(self.log_folder):
                table.alter.add_columns([field for field in wanted.fields if field.name not in known])
            self._flush()
            table = self._open()
        self._opened = table
        return int(table.version())

    def commit(
        self, add: Sequence[DataFile], remove: Sequence[DataFile], properties: Mapping[str, Any]
    ) -> int:
        """Add the files in ``add`` and remove those in ``remove`` in one atomic version, durable on return.

        Raises:
            CatalogueError: when other writers keep committing first.
        """
        from deltalake.exceptions import CommitFailedError
        from deltalake.transaction import AddAction, CommitProperties, RemoveAction

        now = int(time.time() * 1000)
        prefix = len(self.table) + 1
        actions: list[Any] = [
            AddAction(
                file.path[prefix:],
                file.n_bytes,
                file.partition,
                now,
                True,
                json.dumps({"numRecords": file.rows}),
            )
            for file in add
        ]
        actions += [
            RemoveAction(file.path[prefix:], True, now, file.n_bytes, dict(file.partition)) for file in remove
        ]
        for _ in range(N_ATTEMPTS):
            table = self._newest()
            try:
                fault_point("delta.commit")
                with plain_errors(self.log_folder):
                    table.create_write_transaction(
                        actions,
                        "append",
                        table.schema(),
                        list(TABLES[self.table].partition_by),
                        commit_properties=CommitProperties(custom_metadata=dict(properties)),
                    )
            except CommitFailedError:
                self._opened = None
                continue
            fault_point("delta.flush")
            self._flush()
            table.update_incremental()
            return int(table.version())
        raise CatalogueError(
            f"table {self.table}: {N_ATTEMPTS} commits in a row met another writer; run again"
        )

    def is_whole(self, version: int) -> bool:
        """Whether the entry of ``version`` is complete; delta-rs reads an empty entry as no change."""
        return is_entry(self.log_folder / f"{version:020d}.json")

    def _newest(self) -> "DeltaTable":
        if self._opened is None:
            self._opened = self._open()
        else:
            with self._readable():
                self._opened.update_incremental()
        return self._opened

    def _open(self, version: int | None = None) -> "DeltaTable":
        from deltalake import DeltaTable

        with self._readable():
            return DeltaTable(str(self.folder), version=version)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            with plain_errors(self.log_folder):
                yield
        except (CatalogueError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise CatalogueError(
                f"the log of table {self.table} cannot be read: {reason}; run `featlas repair`"
            ) from error

    def _flush(self) -> None:
        """Flush the newest log entry, newer checkpoints and the folder."""
        entries = sorted(self.log_folder.glob("*.json"))[-1:]
        checkpoints = sorted(self.log_folder.glob("*.checkpoint*.parquet"))[-1:]
        for path in (*entries, *checkpoints, *self.log_folder.glob("_last_checkpoint")):
            flush_file(path)
        flush_folder(self.log_folder)


@contextmanager
def plain_errors(place: Path) -> Iterator[None]:
    """Report an error of delta-rs in one line without colours, and a full disk as the system's error.

    Raises:
        OSError: for errors of the disk.
        CatalogueError: for all other errors except a lost race.
    """
    from deltalake.exceptions import CommitFailedError

    try:
        yield
    except CommitFailedError as error:
        number = _system_error(str(error))
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(place)) from error
    except Exception as error:
        number = _system_error(str(error))
        if number is not None:
            raise OSError(number, os.strerror(number), str(place)) from error
        raise CatalogueError(f"{place}: {_one_line(str(error))}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise CatalogueError(f"{place}: {_one_line(str(error))}") from error


def _system_error(text: str) -> int | None:
    """Number of the system error in a message of delta-rs, for example ``(os error 28)``."""
    match = re.search(r"os error (\d+)\)", text)
    number = int(match[1]) if match else 0
    return number if number not in {0, errno.ENOENT, errno.EEXIST} else None


def _one_line(text: str) -> str:
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()]
    return next((line for line in lines if line), "unknown error")[:300]


def is_entry(path: Path) -> bool:
    """Whether a file is a complete log entry: JSON objects, one a line, at least one."""
    try:
        lines = path.read_bytes().splitlines()
        return bool(lines) and all(isinstance(json.loads(line), dict) for line in lines)
    except (FileNotFoundError, ValueError):
        return False
