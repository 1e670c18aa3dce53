"""``featlas up``: server, deployments, workers and dashboard, kept running until Ctrl-C."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

from catalog.errors import UserError
from catalog.settings import catalogue_root
from dashboards.launch import command as dashboard_command
from dashboards.launch import url
from flows.access import KEY_FILE, KEY_VARIABLE, served
from flows.attached import attached_command
from flows.database import Cluster, choose_database, database_settings, make_cluster
from flows.engine import is_healthy, port_is_free, prefect_environment, prefect_home, private_temporary
from flows.supervisor import CHECK_SECONDS, Service, Supervisor
from flows.worker import worker_command
from tasks.common.allocator import steady_allocator

SAY_EVERY_SECONDS = 30.0
MOST_STARTS = 4
"""A service that ends this often before it is up has a fault that another start does not remove."""
REGISTER_PAUSES = (2.0, 5.0, 15.0, 30.0)


def up_command(
    catalogue: str | None,
    server_port: int,
    dashboard_port: int,
    pipeline_files: Sequence[Path],
    dashboard_address: str = "127.0.0.1",
) -> int:
    """Run the platform until SIGINT or SIGTERM; start a child that dies again.

    The dashboard listens on ``dashboard_address``, the Prefect server only on the loopback interface.

    Raises:
        UserError: when a port is taken, a pipeline file is wrong, another `featlas up` uses this home, or the
            server ends again and again.
    """
    root = catalogue_root(catalogue)
    _check_ports({"--server-port": server_port, "--port": dashboard_port})
    _check_pipelines(pipeline_files)
    home = prefect_home()
    logs = home / "logs"
    api_url = f"http://127.0.0.1:{server_port}/api"
    dashboard_url = url(dashboard_port, dashboard_address)
    dashboard = dashboard_command(dashboard_port, dashboard_address)
    with served(home, api_url):
        logs.mkdir(mode=0o700, exist_ok=True)
        cluster, chosen = choose_database(home, os.environ)
        if cluster is not None:
            make_cluster(cluster)
        server_url = api_url.removesuffix("/api")
        environment = {
            **steady_allocator(os.environ),
            **prefect_environment(api_url, home=home),
            "TMPDIR": str(private_temporary(home)),
            "FEATLAS_CATALOG": str(root),
            "FEATLAS_DASHBOARD_URL": dashboard_url,
            "FEATLAS_PREFECT_UI_URL": server_url,
        }
        addresses = [
            f"prefect    {server_url}   (it asks once for the text in {home / KEY_FILE})",
            f"dashboard  {dashboard_url}   (the catalogue {root})",
            f"database   {chosen}",
            f"logs       {logs}",
        ]
        children = services(environment, logs, server_port, dashboard, database_settings(cluster))
        try:
            _run(cluster, children, environment, pipeline_files, addresses)
        finally:
            if cluster is not None:
                shutil.rmtree(cluster.sockets, ignore_errors=True)
    return 0


def _check_ports(ports: Mapping[str, int]) -> None:
    for option, port in ports.items():
        if not port_is_free(port):
            raise UserError(f"port {port} is taken: stop what uses it, or choose another with {option}")


def _check_pipelines(pipeline_files: Sequence[Path]) -> None:
    """Refuse a pipeline file that cannot be deployed, before anything starts."""
    from flows.config import load_pipeline

    for path in pipeline_files:
        if load_pipeline(str(path)).schedule is None:
            raise UserError(f"{path} has no schedule: add schedule: {{cron: '0 2 * * *'}} to it")


def _run(
    cluster: Cluster | None,
    children: Sequence[Service],
    environment: dict[str, str],
    pipeline_files: Sequence[Path],
    addresses: Sequence[str],
) -> None:
    server, *others = children
    supervisor = Supervisor([])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stopper(supervisor))
    try:
        if cluster is not None:
            _start_cluster(supervisor, cluster, server.log.with_name("postgres.log"))
        supervisor.add([server])
        _wait_for(supervisor, server, partial(is_healthy, environment["PREFECT_API_URL"]))
        deploy = [sys.executable, "-m", "flows.cli", "deploy", *map(str, pipeline_files)]
        _register(supervisor, deploy, environment)
        supervisor.add(others)
        if not supervisor.is_stopping:
            print(*addresses, sep="\n", flush=True)
        supervisor.watch()
    finally:
        supervisor.stop()


def services(
    environment: dict[str, str],
    logs: Path,
    server_port: int,
    dashboard: Sequence[str],
    database: Mapping[str, str],
) -> list[Service]:
    """Server, one worker per pool, dashboard. A worker of the GPU pool takes one run at a time.

    Only the server gets the settings of the database. The dashboard reads only the catalogue and does not
    get the key of the server.
    """
    server = [sys.executable, "-m", "flows.api_server", "--port", str(server_port)]
    page_environment = {name: value for name, value in environment.items() if name != KEY_VARIABLE}
    commands = {
        "server": (server, {**environment, **database}),
        "worker-gpu": (worker_command("featlas-gpu", "gpu0", 1), environment),
        "worker-cpu": (worker_command("featlas-cpu", "cpu0", 2), environment),
        "dashboard": (dashboard, page_environment),
    }
    return [
        Service(name, attached_command(command), settings, logs / f"{name}.log")
        for name, (command, settings) in commands.items()
    ]


def _start_cluster(supervisor: Supervisor, cluster: Cluster, log: Path) -> None:
    database = Service("database", attached_command(cluster.command()), {"LC_ALL": "C"}, log)
    supervisor.add([database])
    _wait_for(supervisor, database, cluster.is_ready)


def _wait_for(supervisor: Supervisor, service: Service, is_ready: Callable[[], bool]) -> None:
    """Wait as long as a service needs to start; give up only if it ends again and again."""
    say_at = time.monotonic() + SAY_EVERY_SECONDS
    while not supervisor.is_stopping and not is_ready():
        supervisor.check()
        if service.n_starts > MOST_STARTS:
            raise UserError(f"the {service.name} ended {MOST_STARTS} times at its start: read {service.log}")
        if time.monotonic() > say_at:
            _say(f"the {service.name} is still starting (log: {service.log})")
            say_at = time.monotonic() + SAY_EVERY_SECONDS
        time.sleep(0.2)


def _register(supervisor: Supervisor, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Register the deployments; retry until it works, because the server may be slow or restart."""
    failures = 0
    while not supervisor.is_stopping:
        with subprocess.Popen(attached_command(command), env=environment) as registering:
            while registering.poll() is None and not supervisor.is_stopping:
                supervisor.check()
                time.sleep(CHECK_SECONDS)
            registering.terminate()
        if registering.returncode == 0 or supervisor.is_stopping:
            return
        pause = REGISTER_PAUSES[min(failures, len(REGISTER_PAUSES) - 1)]
        failures += 1
        _say(f"the deployments could not be registered, trying again in {pause:.0f} s: see the message above")
        supervisor.watch(pause)


def _say(text: str) -> None:
    print(f"featlas: {text}", file=sys.stderr, flush=True)


def _stopper(supervisor: Supervisor) -> Callable[[int, FrameType | None], None]:
    def stop(number: int, frame: FrameType | None) -> None:
        supervisor.is_stopping = True

    return stop
