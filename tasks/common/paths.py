"""Paths that a user wrote, with clear errors, and the folder for this machine's state."""

import os
from pathlib import Path

from catalog.errors import UserError


def user_path(text: str) -> Path:
    """The path that a text means, with ``~`` and ``~name`` replaced by the home.

    Raises:
        UserError: for a home that does not exist and for a character that no path can have.
    """
    if "\0" in text:
        raise UserError(f"{text!r} is not a path: it holds a null character")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"{text!r} is not a path here: the home folder does not exist") from None


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
