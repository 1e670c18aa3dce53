"""Finished folders (activation shards, weights) that a commit moves into the catalogue.

A move is a rename on one disk. An existing folder at the destination is first set aside, and deleted after
the commit. A commit that is rolled back restores everything.
"""

import os
import secrets
import shutil
from pathlib import Path

from catalog.durable import flush_file, flush_folder, make_folder
from catalog.errors import CatalogueError
from catalog.faults import fault_point
from catalog.untrusted import folder_move as noted_move

FolderMove = dict[str, str]


def folder_move(root: Path, destination: str, source: Path) -> FolderMove:
    """Describe the move of ``source`` to ``destination`` (relative to the root) for the commit's note.

    Raises:
        CatalogueError: when either path is outside the catalogue or the source is missing.
    """
    if not source.is_dir():
        raise CatalogueError(f"folder {source} cannot be moved to {destination}: it does not exist")
    if not source.resolve().is_relative_to(root.resolve()):
        raise CatalogueError(f"folder {source} must be in the scratch folder of the claim, below {root}")
    move = {
        "to": destination,
        "from": source.resolve().relative_to(root.resolve()).as_posix(),
        "aside": f"{destination}.old-{secrets.token_hex(4)}",
    }
    return noted_move(root, move, root)


def flush_tree(folder: Path) -> None:
    """Flush every file and folder below ``folder`` to disk."""
    for path, _, names in os.walk(folder):
        for name in names:
            flush_file(Path(path) / name)
        flush_folder(Path(path))


def move_in(root: Path, move: FolderMove) -> None:
    """Carry out a move; set an existing folder aside first."""
    source, target, aside = (root / move[name] for name in ("from", "to", "aside"))
    make_folder(target.parent)
    if target.exists():
        target.rename(aside)
    fault_point("folder.rename")
    source.rename(target)
    flush_folder(target.parent)
    flush_folder(source.parent)


def settle(root: Path, move: FolderMove, *, committed: bool) -> None:
    """After a commit, delete what was set aside; after a roll-back, restore both folders."""
    source, target, aside = (root / move[name] for name in ("from", "to", "aside"))
    if committed:
        shutil.rmtree(aside, ignore_errors=True)
        return
    if target.exists() and not source.exists():
        make_folder(source.parent)
        target.rename(source)
    if aside.exists() and not target.exists():
        aside.rename(target)
