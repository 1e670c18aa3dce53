"""Shell completion: pipelines of featlas and dictionaries of the catalogue."""

from pathlib import Path

import typer

from catalog.errors import UserError
from catalog.settings import catalogue_root

PIPELINES = Path(__file__).parent / "pipelines"
MOST_OFFERED = 200


def pipelines(incomplete: str) -> list[str]:
    """Names of the pipelines that come with featlas."""
    return sorted(path.stem for path in PIPELINES.glob("*.yaml") if path.stem.startswith(incomplete))


def dictionaries(context: typer.Context, incomplete: str) -> list[str]:
    """Aliases of the catalogue's dictionaries; empty if there is no catalogue to read."""
    from catalog.connection import connect
    from catalog.queries import aliases_starting

    try:
        with connect(catalogue_root(context.params.get("catalog"))) as connection:
            found = aliases_starting(start=incomplete, limit=MOST_OFFERED).read(connection)
            return [str(alias) for alias in found["alias"].to_pylist()]
    except (UserError, OSError):
        return []
