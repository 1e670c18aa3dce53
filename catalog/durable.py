"""Files that survive a power cut: write a temporary file, flush it, rename it, flush the folder.

A file under its final name is therefore always complete. Unfinished files begin with ``.tmp-`` so that no
glob pattern matches them.
"""

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from catalog.errors import CatalogueError
from catalog.faults import fault_point

TEMPORARY_PREFIX = ".tmp-"


def temporary_beside(path: Path) -> Path:
    """A name for an unfinished file in the folder of ``path``."""
    return path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}-{path.name}"[:200])


def flush_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_file(path: Path) -> None:
    """Make the content of a file from another writer durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create ``folder`` and its parents, each of them durable."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    flush_folder(folder.parent)


def replace_file(path: Path, content: bytes, point: str = "file") -> None:
    """Write ``content`` to ``path``; readers see the old or the new content, never a part."""
    temporary = _write_temporary(path, content, point)
    fault_point(f"{point}.rename")
    temporary.replace(path)
    flush_folder(path.parent)


def create_file(path: Path, content: bytes, point: str = "file") -> bool:
    """Create ``path`` unless it exists: the compare-and-swap of the catalogue.

    Returns:
        False when the name was taken; the existing file is untouched.
    """
    temporary = _write_temporary(path, content, point)
    fault_point(f"{point}.link")
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    flush_folder(path.parent)
    return True


def to_json(value: Any) -> bytes:
    """Readable JSON with a newline at the end; it refuses NaN."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


@contextmanager
def said_plainly(action: str, place: Path, consequence: str = "nothing was published") -> Iterator[None]:
    """Turn an ``OSError`` (disk full, read-only, no permission) into one sentence.

    Raises:
        CatalogueError: naming the action, the place, the reason and, for a full disk, the free bytes.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.ENOSPC:
            existing = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
            reason = f"{reason}, {shutil.disk_usage(existing).free} bytes are free"
        raise CatalogueError(
            f"cannot {action} {error.filename or place}: {reason}; {consequence}, "
            "make room or fix the permissions and run again"
        ) from error


def _write_temporary(path: Path, content: bytes, point: str) -> Path:
    temporary = temporary_beside(path)
    try:
        with temporary.open("xb") as file:
            fault_point(f"{point}.write")
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
