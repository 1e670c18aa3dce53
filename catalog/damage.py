"""The error of a reader when a data file turns out to be damaged while it reads: which file, what to do.

DuckDB and Arrow notice a flipped bit only if it breaks a page, and name neither the file nor what to do. The
checksums identify the file, so they are checked after a failure.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from catalog.errors import CatalogueError
from catalog.schemas import TABLES
from catalog.snapshot import newest_snapshot
from catalog.soundness import content_fault, sound_files


@contextmanager
def naming_damaged_files(root: Path, tables: Sequence[str] | None = None) -> Iterator[None]:
    """Run queries; if one fails because data files are damaged, the error names the first of these files.

    Args:
        root: The catalogue.
        tables: Tables that the queries read; all by default.

    Raises:
        CatalogueError: in place of an error of DuckDB, Arrow or the file system, when a file is damaged.
            Other errors, and these errors if every file is intact, pass.
    """
    import duckdb

    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        sentence = damage_sentence(root, tables)
        if sentence is None:
            raise
        raise CatalogueError(sentence) from error


def damage_sentence(root: Path, tables: Sequence[str] | None = None) -> str | None:
    """The damage in the newest version, in one sentence; None if every byte is as it was written."""
    snapshot = newest_snapshot(root)
    names = TABLES if tables is None else tables
    found = [damage for name in names for damage in sound_files(snapshot, name, content_fault)[1]]
    if not found:
        return None
    others = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    first = found[0]
    return (
        f"table {first.table} cannot be read: {first.path}{others} of the catalogue {root} is damaged; "
        "`featlas verify --deep` names every such file, `featlas repair` sets them aside and names "
        "the stages to run again"
    )
