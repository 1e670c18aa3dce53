"""Options that several commands of the command line share."""

from typing import Annotated, Literal

import typer

CatalogOption = Annotated[
    str | None,
    typer.Option("--catalog", metavar="URI", help="Folder of the catalogue [FEATLAS_CATALOG, ./catalogue]"),
]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Print only errors")]
VerboseOption = Annotated[bool, typer.Option("-v", "--verbose", help="Print more, every 10 seconds")]
LogFormatOption = Annotated[
    Literal["text", "json"], typer.Option("--log-format", help="Format of the lines of progress")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object")]

AddressOption = Annotated[
    str,
    typer.Option(help="Interface of the dashboard; it has no login, so open it only behind a proxy with one"),
]


def print_version(wanted: bool) -> None:
    """Print the version and end, if the option was given."""
    if wanted:
        from catalog.version import code_version

        print(f"featlas {code_version()}")
        raise typer.Exit()
