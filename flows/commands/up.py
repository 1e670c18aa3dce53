"""``featlas up``: server, deployments, workers and dashboard, kept alive until Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from catalog.errors import UserError
from catalog.settings import catalogue_root
from dashboards.launch import command as dashboard_command
from flows.attached import attached_command
from flows.engine import STARTUP_SECONDS, is_healthy, port_is_free, prefect_environment, state_folder
from flows.supervisor import Service, Supervisor
from tasks.common.allocator import steady_allocator


def up_command(
    catalogue: str | None, server_port: int, dashboard_port: int, pipeline_files: Sequence[Path]
) -> int:
    """Run the platform until SIGINT or SIGTERM; a child that dies is started again.

    Raises:
        UserError: when a port is taken or the server does not come up.
    """
    root = catalogue_root(catalogue)
    for port, option in ((server_port, "--server-port"), (dashboard_port, "--port")):
        if not port_is_free(port):
            raise UserError(f"port {port} is taken: stop what uses it, or choose another with {option}")
    home = Path(os.environ.get("PREFECT_HOME") or state_folder() / "prefect")
    logs = home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    api_url = f"http://127.0.0.1:{server_port}/api"
    environment = {
        **steady_allocator(os.environ),
        **prefect_environment(api_url, home=home),
        "FEATLAS_CATALOG": str(root),
        "FEATLAS_DASHBOARD_URL": f"http://127.0.0.1:{dashboard_port}",
        "FEATLAS_PREFECT_UI_URL": f"http://127.0.0.1:{server_port}",
    }
    server, *others = services(environment, logs, server_port, dashboard_port)
    supervisor = Supervisor([server])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stopper(supervisor))
    try:
        supervisor.start()
        _wait_for_server(supervisor, api_url, server.log)
        _deploy(environment, pipeline_files)
        supervisor.add(others)
        print(f"prefect    http://127.0.0.1:{server_port}   (deployments, schedules, runs)")
        print(f"dashboard  http://127.0.0.1:{dashboard_port}   (the catalogue {root})")
        print(f"logs       {logs}", flush=True)
        supervisor.watch()
    finally:
        supervisor.stop()
    return 0


def services(environment: dict[str, str], logs: Path, server_port: int, dashboard_port: int) -> list[Service]:
    """Server, one worker per pool, dashboard. A worker of the GPU pool takes one run at a time."""
    prefect = [sys.executable, "-m", "prefect"]
    server = [*prefect, "server", "start", "--host", "127.0.0.1", "--port", str(server_port)]
    worker = [*prefect, "worker", "start", "--type", "process", "--install-policy", "never"]
    server_environment = environment | {"PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs"}
    commands = {
        "server": (server, server_environment),
        "worker-gpu": ([*worker, "--pool", "featlas-gpu", "--name", "gpu0", "--limit", "1"], environment),
        "worker-cpu": ([*worker, "--pool", "featlas-cpu", "--name", "cpu0", "--limit", "2"], environment),
        "dashboard": (dashboard_command(dashboard_port), environment),
    }
    return [
        Service(name, attached_command(command), settings, logs / f"{name}.log")
        for name, (command, settings) in commands.items()
    ]


def _wait_for_server(supervisor: Supervisor, api_url: str, log: Path) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while not is_healthy(api_url):
        if supervisor.is_stopping:
            return
        if time.monotonic() > deadline:
            raise UserError(f"the Prefect server did not start within {STARTUP_SECONDS:.0f} s: read {log}")
        supervisor.check()
        time.sleep(0.2)


def _deploy(environment: dict[str, str], pipeline_files: Sequence[Path]) -> None:
    command = [sys.executable, "-m", "flows.cli", "deploy", *map(str, pipeline_files)]
    if subprocess.run(command, env=environment, check=False).returncode != 0:
        raise UserError("the deployments could not be registered: see the message above")


def _stopper(supervisor: Supervisor) -> Callable[[int, FrameType | None], None]:
    def stop(number: int, frame: FrameType | None) -> None:
        supervisor.is_stopping = True

    return stop
