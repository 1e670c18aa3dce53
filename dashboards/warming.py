"""The connection and the first tables of every version, made before somebody asks for them."""

import logging
import threading

import duckdb

from catalog.errors import UserError
from dashboards import data

SECONDS = 2.0
FIRST = ("damage", "dictionaries", "models")
_log = logging.getLogger(__name__)


def keep_warm(ended: threading.Event) -> None:
    """Warm the newest version, and each that is published later, once; until ``ended`` is set."""
    known: data.Catalogue | None = None
    while True:
        try:
            newest = data.current()
            if newest != known:
                known = newest
                warm(newest)
        except (UserError, duckdb.Error, OSError):
            _log.debug("the newest version could not be read ahead of its first page", exc_info=True)
        if ended.wait(SECONDS):
            return


def warm(catalogue: data.Catalogue) -> None:
    """Open a version and read what every page begins with; later calls find both."""
    for query in FIRST:
        data.rows(catalogue, query)
