"""``featlas import``: check and import a dictionary of another tool, as a Prefect flow in this process."""

from typing import Any

from catalog.settings import catalogue_root
from flows.commands.run import print_summary
from flows.local import run_here
from flows.terminal import Style


def import_command(arguments: dict[str, Any], catalogue: str | None, *, force: bool, style: Style) -> int:
    """Import and print what was imported; return 0 only if every stage completed, 1 if one failed.

    Args:
        arguments: Parameters of the flow by name, without catalogue and force.
        catalogue: Folder of the catalogue.
        force: Import it again even if it is done.
        style: How much to print, and in which form.

    Raises:
        UserError: for a file that cannot be read or does not fit, an unknown model or setting.
    """
    root = catalogue_root(catalogue)

    def check() -> None:
        from flows.import_request import import_request
        from flows.preflight import check_import

        asked = {name: value for name, value in arguments.items() if name != "accept_unverified"}
        check_import(import_request(**asked))

    def call() -> dict[str, Any]:
        from flows.import_dictionary import import_dictionary

        summary: dict[str, Any] = import_dictionary(**arguments, catalogue=str(root), force=force)
        return summary

    return run_here(check, call, lambda summary: print_summary(summary, style), style)
