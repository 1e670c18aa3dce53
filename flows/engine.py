"""The Prefect server of a run: the one at ``PREFECT_API_URL``, else one that featlas starts.

This module does not import Prefect, because Prefect reads its settings once, at import: the functions set
the environment first.
"""

import atexit
import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from filelock import FileLock, Timeout

from catalog.errors import UserError
from catalog.ids import digest
from flows.access import access_key, client_settings
from flows.attached import attached_command
from flows.named_server import connect_named
from tasks.common.paths import state_folder

STARTUP_SECONDS = 120.0
LONGEST_TEMPORARY = 60
HEARTBEAT_SECONDS = 30

ENGINE_SETTINGS = {
    "PREFECT_CLIENT_MAX_RETRIES": "8",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
}


def prefect_home() -> Path:
    """The Prefect home of featlas: database, key and logs of the server that featlas starts."""
    return Path(os.environ.get("PREFECT_HOME") or state_folder() / "prefect")


def private_temporary(home: Path) -> Path:
    """A folder for temporary files that other users cannot enter.

    Prefect puts the files of runs into a folder with a fixed name in the temporary folder. That folder
    belongs to the user whose worker was first on the machine.

    Raises:
        UserError: when another user created a folder with that name.
    """
    folder = home / "tmp"
    if len(str(folder)) > LONGEST_TEMPORARY:  # sockets are made in it, and their paths are short
        folder = Path(tempfile.gettempdir()) / f"featlas-{os.getuid()}-{digest(str(home))[:8]}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise UserError(
            f"{folder} belongs to another user: remove it, or set FEATLAS_STATE to another folder"
        )
    return folder


def prefect_environment(api_url: str, *, home: Path) -> dict[str, str]:
    """The settings of a process that uses the server of the Prefect home ``home`` at ``api_url``.

    The process uses that home instead of the user's profile, and sends the key of the home.
    """
    return {
        **ENGINE_SETTINGS,
        "PREFECT_API_URL": api_url,
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        **client_settings(access_key(home)),
    }


def is_healthy(api_url: str, timeout_seconds: float = 2.0) -> bool:
    """Whether a Prefect server answers at ``api_url``."""
    try:
        with urllib.request.urlopen(f"{api_url}/health", timeout=timeout_seconds) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int) -> bool:
    """Whether a TCP port of 127.0.0.1 is free."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def connect_engine(home: Path | None = None) -> str:
    """Make sure that a Prefect server runs; return its API URL and set the environment for it.

    ``PREFECT_API_URL`` names a running server. Without it a server starts in the Prefect home of featlas and
    lives as long as this process; a profile's API URL is never used. A file lock covers the start, because
    two servers must not migrate one fresh database at the same time.

    Call this before Prefect is imported. The server of featlas stops at exit, after Prefect's own exit
    handlers, which still send it logs and events.

    Raises:
        UserError: when the named server does not answer, or the server of featlas does not start in time.
    """
    for name, value in ENGINE_SETTINGS.items():
        os.environ.setdefault(name, value)
    named = os.environ.get("PREFECT_API_URL")
    if named:
        connect_named(named, prefect_home())
        return named
    home = home or state_folder() / "prefect"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    api_url, server = _start_server(home)
    atexit.register(_stop, server)
    os.environ.update(prefect_environment(api_url, home=home))
    return api_url


def _start_server(home: Path) -> tuple[str, subprocess.Popen[bytes]]:
    lock = FileLock(home / "server-start.lock")
    try:
        lock.acquire(timeout=STARTUP_SECONDS)
    except Timeout:
        raise UserError(
            f"another run has been starting its Prefect server in {home} for {STARTUP_SECONDS:.0f} s: "
            "stop it, or set PREFECT_API_URL to a running server"
        ) from None
    with lock:
        port = free_port()
        api_url = f"http://127.0.0.1:{port}/api"
        log = home / "server.log"
        server = start_server(port, home=home, log=log, with_ui=False, with_services=False)
        deadline = time.monotonic() + STARTUP_SECONDS
        while not is_healthy(api_url):
            if server.poll() is not None or time.monotonic() > deadline:
                _stop(server)
                raise UserError(f"the Prefect server did not start: read {log}, then run again")
            time.sleep(0.1)
    return api_url, server


def start_server(
    port: int, *, home: Path, log: Path, with_ui: bool, with_services: bool, host: str = "127.0.0.1"
) -> subprocess.Popen[bytes]:
    """Start a Prefect server that dies with this process and requires the key of ``home``."""
    command = [sys.executable, "-m", "flows.api_server", "--host", host, "--port", str(port)]
    command += [] if with_ui else ["--no-ui"]
    command += [] if with_services else ["--no-services"]
    settings = prefect_environment(f"http://{host}:{port}/api", home=home)
    with log.open("ab") as output:
        return subprocess.Popen(
            attached_command(command),
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a signal to the group of the run must not stop its server first
        )


def _stop(process: subprocess.Popen[bytes], grace_seconds: float = 10.0) -> None:
    process.terminate()
    try:
        process.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
