"""Paths that a user wrote, with clear errors, and the folder for this machine's state."""

import errno
import os
from contextlib import suppress
from pathlib import Path

from catalog.errors import UserError

_SHOWN = 60
"""Characters of a path that is too long in its error message: enough to recognise it."""


def user_path(text: str) -> Path:
    """The path that a text means, with ``~`` and ``~name`` replaced by the home.

    Raises:
        UserError: for a home that does not exist, for a character that no path can have and for a name that
            is too long for the file system.
    """
    if "\0" in text:
        raise UserError(f"{text!r} is not a path: it holds a null character")
    try:
        path = Path(text).expanduser()
        with suppress(ValueError):  # a character that the file system cannot encode: no such file exists
            path.lstat()
    except RuntimeError:
        raise UserError(f"{text!r} is not a path here: the home folder does not exist") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UserError(f"{text[:_SHOWN]!r}… is not a path here: a name in it is too long") from None
    return path


def state_folder() -> Path:
    """The folder of this machine's state outside the catalogue: Prefect's database, locks, logs."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(os.environ.get("FEATLAS_STATE") or Path(base) / "featlas").absolute()


def is_folder(path: Path) -> bool:
    """Whether the folder exists; False for a name that is too long for the file system."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_file(path: Path) -> bool:
    """Whether the file exists; False for a name that is too long for the file system."""
    try:
        return path.is_file()
    except OSError:
        return False
