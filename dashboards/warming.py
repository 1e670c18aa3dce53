"""Opens the connection and reads the first tables of every version before a page needs them."""

import logging
import threading

import duckdb

from catalog import queries
from catalog.errors import UserError
from dashboards import data

SECONDS = 2.0
FIRST = (queries.damage(), queries.dictionaries(), queries.models())
_log = logging.getLogger(__name__)


def keep_warm(ended: threading.Event) -> None:
    """Warm the newest version, and each later one once, until ``ended`` is set."""
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
    """Open a version and read what every page needs first; later calls find both."""
    for query in FIRST:
        data.rows(catalogue, query)
