"""Whatever goes wrong behind the command line is one line, and the exit code says whose fault it is."""

import errno
import sys

import pytest

from catalog.errors import UserError
from flows.boundary import verdict
from flows.cli import app, main


class Coloured(Exception):
    """An error of a library that colours its text."""


def wrapped(cause: BaseException) -> Exception:
    error = RuntimeError("the lease is gone")
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("two\nlines"), 2, "two lines"),
        (OSError(errno.ENOSPC, "No space left on device", "x.parquet"), 2, "the disk is full at x.parquet"),
        (wrapped(OSError(errno.ENOSPC, "No space left on device")), 2, "the disk is full"),
        (
            Coloured("\x1b[31mGeneric LocalFileSystem error: No space left on device (os error 28)"),
            2,
            "disk is full",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 2, "/x: Permission denied"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 9), 2, "File name too long"),
        (MemoryError(), 2, "not enough memory"),
        (ZeroDivisionError("division\nby zero"), 1, "unexpected ZeroDivisionError: division by zero"),
        (Coloured("\x1b[31mred\x1b[0m"), 1, "unexpected Coloured: red"),
        (KeyError("x"), 1, "--debug"),
        (RecursionError("maximum recursion depth exceeded"), 1, "unexpected RecursionError"),
    ],
)
def test_every_error_is_one_line(error: Exception, code: int, said: str) -> None:
    found = verdict(error)
    assert found.code == code
    assert said in found.sentence
    assert found.sentence.isprintable()


@pytest.fixture
def broken_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr("flows.commands.doctor.doctor_command", fail)
    monkeypatch.setenv("FEATLAS_DEBUG", "")


@pytest.mark.usefixtures("broken_command")
def test_a_fault_of_ours_is_one_line_that_names_its_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.registered_commands
    monkeypatch.setattr(sys, "argv", ["featlas", "doctor"])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err
    assert end.value.code == 1
    assert said.count("\n") == 1
    assert "unexpected ZeroDivisionError in test_boundary.py" in said
    assert "--debug" in said


@pytest.mark.usefixtures("broken_command")
def test_debug_shows_the_traceback_of_a_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["featlas", "doctor", "--debug"])
    with pytest.raises(ZeroDivisionError):
        main()
