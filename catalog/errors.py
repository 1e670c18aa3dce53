"""Errors that a user can cause, each said in one clear sentence."""


class UserError(Exception):
    """A mistake of the user: the message says what is wrong, where, and what to do.

    The command line prints the message alone and exits with code 2.
    """


class CatalogueError(UserError):
    """The catalogue cannot be read or written as asked."""


class Fenced(CatalogueError):
    """Another attempt took over this unit of work; nothing of this attempt was published."""


class AlreadyRunning(CatalogueError):
    """Another live attempt holds the lease of this unit of work."""
