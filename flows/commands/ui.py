"""``featlas ui``: serve the dashboard as a child that ends with this process."""

import subprocess

from catalog.settings import catalogue_root
from dashboards.launch import command, environment, url
from flows.attached import attached_command


def ui_command(port: int, address: str, catalogue: str | None) -> int:
    """Run the dashboard until it ends or Ctrl-C; return its exit code."""
    root = catalogue_root(catalogue)
    print(f"featlas: the catalogue {root} is at {url(port, address)} (Ctrl-C ends)")
    with subprocess.Popen(attached_command(command(port, address)), env=environment(root)) as dashboard:
        try:
            return dashboard.wait()
        except KeyboardInterrupt:
            dashboard.terminate()
            dashboard.wait()
            return 0
