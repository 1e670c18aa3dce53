"""The boundary of the command line: every error behind it becomes one line and an exit code."""

import errno
import re
import sys
import traceback
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from catalog.errors import UserError
from flows.extras import missing_extra

USERS_MISTAKE, FAULT_OF_OURS = 2, 1
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_FULL = ("no space left on device", "disk quota exceeded", "storagefull")
_LONGEST = 1_000


class Verdict(NamedTuple):
    """The message for an error, and the exit code."""

    sentence: str
    code: int


def verdict(error: BaseException) -> Verdict:
    """One line for any error: exit code 2 for what a user can cause, 1 for a bug in featlas.

    Errors of the operating system count as caused by the user: a full disk, a missing permission, a name that
    is too long. For a bug the line names the place in the code and how to see the traceback.
    """
    if isinstance(error, UserError):
        return Verdict(one_line(error), USERS_MISTAKE)
    if isinstance(error, ModuleNotFoundError) and (sentence := missing_extra(error)) is not None:
        return Verdict(sentence, USERS_MISTAKE)
    full = next((cause for cause in _chain(error) if _is_full(cause)), None)
    if full is not None:
        place = getattr(full, "filename", None)
        return Verdict(f"the disk is full{f' at {place}' if place else ''}: free some space and run again", 2)
    if isinstance(error, OSError) and error.errno is not None:
        place = f"{error.filename}: " if error.filename is not None else ""
        return Verdict(one_line(f"{place}{error.strerror}: check the path, its permissions and the disk"), 2)
    if isinstance(error, MemoryError):
        return Verdict("there is not enough memory: close other programs or process less at once", 2)
    if isinstance(error, ValidationError) or type(error).__name__ == "ParameterTypeError":
        return Verdict(one_line(f"a parameter cannot be used: {error}"), USERS_MISTAKE)
    return Verdict(
        f"unexpected {type(error).__name__}{_place(error)}: {one_line(error)} (a bug in featlas, please "
        "report it: --debug shows the traceback)",
        FAULT_OF_OURS,
    )


def one_line(error: object) -> str:
    """The text of an error on one line, without colours and control characters."""
    text = " ".join(_COLOURS.sub("", str(error)).split()) or type(error).__name__
    text = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def tell(error: BaseException) -> int:
    """Print the line for an error; returns the exit code.

    What its frames held is let go: DuckDB would print an open connection at the end of the process as a leak.
    """
    sentence, code = verdict(error)
    for one in _chain(error):
        traceback.clear_frames(one.__traceback__)
    line = f"featlas: {sentence}"
    print(
        line.encode(sys.stderr.encoding or "utf-8", "backslashreplace").decode("utf-8", "replace"),
        file=sys.stderr,
    )
    return code


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    waiting: BaseException | None = error
    while waiting is not None and waiting not in found:
        found.append(waiting)
        waiting = waiting.__cause__ or waiting.__context__
    return found


def _is_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    text = str(error).lower()
    return any(mark in text for mark in _FULL)


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f" in {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
