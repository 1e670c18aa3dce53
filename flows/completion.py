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

    statement = "select distinct alias from dictionaries where starts_with(alias, $1) order by alias limit $2"
    try:
        with connect(catalogue_root(context.params.get("catalog"))) as connection:
            return [
                alias for (alias,) in connection.execute(statement, [incomplete, MOST_OFFERED]).fetchall()
            ]
    except (UserError, OSError):
        return []
