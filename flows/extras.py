"""Names the extra to install when a command needs a package that is not installed."""

import sys
from importlib.util import find_spec

from catalog.errors import UserError

OWN_PACKAGES = frozenset({"flows", "tasks", "catalog", "dashboards"})


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """One sentence for a third-party package that is not installed; None for any other module."""
    module = (error.name or "").partition(".")[0]
    if not module or module in OWN_PACKAGES or module in sys.stdlib_module_names:
        return None
    return _sentence(module)


def require(*modules: str) -> None:
    """Refuse a command before it starts anything if a package that it needs is not installed.

    Raises:
        UserError: naming the first module that is missing, and what to install.
    """
    for module in modules:
        if find_spec(module) is None:
            raise UserError(_sentence(module))


def _sentence(module: str) -> str:
    return (
        f"this command needs the package {module}, which is not installed: "
        "install everything with `pip install 'featlas-platform[all]'`"
    )
