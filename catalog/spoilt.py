"""What a reader says when a data file turns out to be spoilt while it reads: which file, and what to do.

DuckDB and Arrow notice a flipped bit only where it breaks a page, and name neither the file nor the remedy.
The checksums do, so they are read once something failed.
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
def naming_spoilt_files(root: Path, tables: Sequence[str] | None = None) -> Iterator[None]:
    """Run queries; where one fails because data files are spoilt, the error names the first of them.

    Args:
        root: The catalogue.
        tables: Tables that the queries read; all by default.

    Raises:
        CatalogueError: in place of an error of DuckDB, Arrow or the file system, when a file is spoilt. Other
            errors, and these where every file is sound, pass.
    """
    import duckdb

    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        sentence = spoilt_sentence(root, tables)
        if sentence is None:
            raise
        raise CatalogueError(sentence) from error


def spoilt_sentence(root: Path, tables: Sequence[str] | None = None) -> str | None:
    """What is spoilt in the newest version, in one sentence; None where every byte is as it was written."""
    snapshot = newest_snapshot(root)
    names = TABLES if tables is None else tables
    found = [damage for name in names for damage in sound_files(snapshot, name, content_fault)[1]]
    if not found:
        return None
    others = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    first = found[0]
    return (
        f"table {first.table} cannot be read: {first.path}{others} of the catalogue {root} is spoilt; "
        "`featlas verify --deep` names every such file, `featlas repair` sets them aside and names "
        "the stages to run again"
    )
