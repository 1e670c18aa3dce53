"""``featlas import``: a dictionary of another tool, gated and landed as a Prefect flow in this process."""

import json
import os
import sys
from contextlib import nullcontext
from typing import Any

from catalog.settings import catalogue_root
from flows.commands.run import report
from flows.engine import connect_engine


def import_command(arguments: dict[str, Any], catalogue: str | None, *, force: bool, as_json: bool) -> int:
    """Import and print what landed; 0 only if every stage completed, 1 if one failed.

    Args:
        arguments: Parameters of the flow by name, without catalogue and force.
        catalogue: Folder of the catalogue.
        force: Do it again though it is done.
        as_json: Print the summary as one JSON object.

    Raises:
        UserError: for a file that cannot be read or does not fit, an unknown model or setting.
    """
    from flows.import_request import import_request

    root = catalogue_root(catalogue)
    checked = {name: value for name, value in arguments.items() if name != "accept_unverified"}
    import_request(**checked)
    level = "INFO" if os.environ.get("FEATLAS_DEBUG") else "CRITICAL"  # errors are said once, at the end
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", level)
    connect_engine()
    summary = _import(arguments, str(root), force=force, quiet=as_json)
    print(json.dumps(summary) if as_json else report(summary))
    return 0 if summary["state"] == "completed" else 1


def _import(arguments: dict[str, Any], root: str, *, force: bool, quiet: bool) -> dict[str, Any]:
    from flows.import_dictionary import import_dictionary
    from flows.reports import StagesFailed
    from flows.terminal import terminal_progress

    with terminal_progress() if not quiet and sys.stderr.isatty() else nullcontext():
        try:
            return import_dictionary(**arguments, catalogue=root, force=force)
        except StagesFailed as error:
            return error.summary
