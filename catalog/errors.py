"""Errors that a user can cause, each reported in one clear sentence."""


class UserError(Exception):
    """An error of the user: the message says what is wrong, where, and what to do.

    The command line prints only the message and exits with code 2.
    """


def first_line(error: Exception) -> str:
    """The first line of another library's message, or the kind of the error where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class CatalogueError(UserError):
    """The catalogue cannot be read or written as requested."""


class Fenced(CatalogueError):
    """Another attempt took over this unit of work; nothing of this attempt was published."""


class AlreadyRunning(CatalogueError):
    """Another live attempt holds the lease of this unit of work."""
