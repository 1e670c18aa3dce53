"""How the dashboard starts: one command line, the same for users, services and tests."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).parent

OPTIONS: Mapping[str, str] = {
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "server.runOnSave": "false",
    "server.enableStaticServing": "false",
    "server.enableXsrfProtection": "true",
    "server.enableCORS": "true",
    "server.enableAgentApi": "false",
    "server.maxUploadSize": "1",
    "server.showEmailPrompt": "false",
    "browser.gatherUsageStats": "false",
    "global.disableWidgetStateDuplicationWarning": "true",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "client.toolbarMode": "minimal",
    "theme.base": str(HERE / "theme.toml"),
}


def command(port: int = 8501, address: str = "127.0.0.1") -> list[str]:
    """The command line that serves the dashboard on ``address:port``.

    It listens on the loopback interface by default. It has no login, so put an authenticating proxy in front
    before you open it to others.
    """
    options = {**OPTIONS, "server.port": str(port), "server.address": address}
    flags = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "streamlit", "run", str(HERE / "asgi.py"), *flags]


def url(port: int, address: str) -> str:
    """The URL with which a browser of this machine reaches the dashboard that listens on ``address:port``."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(address, f"[{address}]" if ":" in address else address)
    return f"http://{name}:{port}"


def environment(catalogue: str | Path | None = None) -> dict[str, str]:
    """The environment to start it with; ``catalogue`` is the folder to show."""
    extra = {} if catalogue is None else {"FEATLAS_CATALOG": str(Path(catalogue).resolve())}
    return {**os.environ, **extra}
