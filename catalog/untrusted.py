"""Checks of the files of a catalogue folder: a folder can come from anyone, so its files are untrusted input.

Paths are relative, below the root and contain no link; tables and files have names that featlas gives.
Anything else is refused with one sentence before featlas reads, moves or deletes a file because of it.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from catalog.errors import CatalogueError
from catalog.parquet_io import FILE_NAME, DataFile
from catalog.schemas import TABLES

BLOBS = "_blobs"
SCRATCH = "_scratch"
_TABLE = re.compile(r"[a-z][a-z0-9_]{0,62}")
_PARTITION = re.compile(r"(?P<name>[a-z][a-z0-9_]{0,62})=(?P<value>[a-z0-9._-]{1,96})")
_PART = re.compile(r"[^\x00-\x1f\\*?\[\]]{1,255}")
_ASIDE = re.compile(r"\.old-[0-9a-f]{8}")


def read_json(path: Path) -> Any:
    """The content of a JSON file of the catalogue.

    Raises:
        FileNotFoundError: when there is none.
        CatalogueError: when it is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise CatalogueError(f"{path} is damaged; run `featlas repair`") from error


def table_name(value: Any, where: Path) -> str:
    """A valid name of a table, including one that only a newer featlas knows.

    Raises:
        CatalogueError: for anything else.
    """
    if isinstance(value, str) and _TABLE.fullmatch(value):
        return value
    raise CatalogueError(f"{where} names a table {value!r:.80}, which featlas would never write; not trusted")


def count(value: Any, where: Path) -> int:
    """A whole number from 0 on."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
        return value
    raise CatalogueError(f"{where} holds {value!r:.80} in place of a number; run `featlas repair`")


def data_file(path: Any, rows: Any, n_bytes: Any, partition: Any, *, table: str, where: Path) -> DataFile:
    """An entry of a file list or log.

    Raises:
        CatalogueError: for a path that is not a data file of ``table`` below the catalogue.
    """
    refused = CatalogueError(
        f"{where} names {path!r:.200}, which is not a data file of table {table}; not trusted"
    )
    if not isinstance(path, str) or not isinstance(partition, dict):
        raise refused
    folder, *parts, name = path.split("/") if "/" in path else ("", "")
    matches = [_PARTITION.fullmatch(part) for part in parts]
    found = {match["name"]: match["value"] for match in matches if match is not None}
    values = {str(key): str(value) for key, value in partition.items()}
    expected = TABLES[table].partition_by if table in TABLES else tuple(found)
    if folder != table or FILE_NAME.fullmatch(name) is None or None in matches:
        raise refused
    if tuple(found) != expected or found != values:
        raise refused
    return DataFile(path, count(rows, where), count(n_bytes, where), values)


def inside(root: Path, relative: Any, what: str) -> Path:
    """The absolute path of a file or folder that a file of the catalogue names.

    Raises:
        CatalogueError: unless it is a plain relative path below the root that contains no link.
    """
    parts = relative.split("/") if isinstance(relative, str) else []
    if not parts or not all(_PART.fullmatch(part) and part not in {".", ".."} for part in parts):
        raise CatalogueError(f"{what} {relative!r:.200} is not below the catalogue {root}; not trusted")
    path = root.joinpath(*parts)
    if has_link(root, path):
        raise CatalogueError(
            f"{what} {relative} of the catalogue {root} is reached through a link; a catalogue is one real "
            "folder: replace the link with a copy of what it points to"
        )
    return path


def blob_folder(root: Path, relative: Any, what: str) -> Path:
    """The absolute path of a folder of weights or shards that a row of the catalogue names.

    Raises:
        CatalogueError: unless it is below the root, and neither its path nor its content has a link.
    """
    folder = inside(root, relative, what)
    for path in map(Path, _entries(folder)):
        inside(root, path.relative_to(root).as_posix(), f"a file of {what}")
    return folder


def has_link(root: Path, path: Path) -> bool:
    """Whether ``path`` or a folder between it and ``root`` is a symbolic link."""
    name, top = str(path), str(root)
    while name != top:
        if os.path.islink(name):
            return True
        name = os.path.dirname(name)
    return False


def refuse_links(root: Path) -> None:
    """Refuse links: writers create, rename and delete in these folders, so they must be real ones.

    Raises:
        CatalogueError: naming the link.
    """
    named = [root / name for name in (*TABLES, BLOBS, SCRATCH, "_catalogue", "_ledger")]
    named += [root / name / "_delta_log" for name in TABLES]
    named += [
        Path(entry) for name in (BLOBS, "_catalogue", "_catalogue/files") for entry in _entries(root / name)
    ]
    for path in named:
        if path.is_symlink():
            inside(root, path.relative_to(root).as_posix(), "the folder")


def folder_move(root: Path, value: Any, where: Path) -> dict[str, str]:
    """A move of a finished folder in a commit's note: from the scratch folder to the blobs.

    Raises:
        CatalogueError: for any other move.
    """
    names = ("from", "to", "aside")
    if not isinstance(value, dict) or set(value) != set(names):
        raise CatalogueError(
            f"{where} holds a move {value!r:.80} that featlas would never write; not trusted"
        )
    for name in names:
        inside(root, value[name], f"{where} moves folders, and")
    tail = value["aside"].removeprefix(value["to"])
    below = value["to"].startswith(f"{BLOBS}/") and value["from"].startswith(f"{SCRATCH}/")
    if not below or _ASIDE.fullmatch(tail) is None or tail == value["aside"]:
        raise CatalogueError(
            f"{where} would move {value['from']} to {value['to']}, which no stage does; not trusted"
        )
    return {name: value[name] for name in names}


def _entries(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as found:
            return [entry.path for entry in found]
    except (FileNotFoundError, NotADirectoryError):
        return []
