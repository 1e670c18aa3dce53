"""The synthetic catalogue, a server that shows it, and a browser, each once per test session."""

import importlib.util
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, sync_playwright

from dashboards.launch import command, environment


def _load() -> ModuleType:
    path = Path(__file__).with_name("synthetic.py")
    spec = importlib.util.spec_from_file_location("featlas_synthetic", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["featlas_synthetic"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The module that names what is in the catalogue."""
    return sys.modules.get("featlas_synthetic") or _load()


@pytest.fixture(scope="session")
def catalogue(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of the synthetic catalogue; read only by agreement."""
    return synthetic.build(tmp_path_factory.mktemp("synthetic") / "catalogue")


@pytest.fixture(scope="module")
def server(catalogue: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a dashboard that serves the synthetic catalogue, started as users start it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (tmp_path_factory.mktemp("server") / "log").open("wb")
    process = subprocess.Popen(
        command(port), env=environment(catalogue), stdout=log, stderr=subprocess.STDOUT
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_until_up(f"{address}/_stcore/health", process)
        yield address
    finally:
        process.kill()
        process.wait(60)
        log.close()


def _wait_until_up(health: str, process: "subprocess.Popen[bytes]") -> None:
    give_up = time.monotonic() + 90
    while time.monotonic() < give_up:
        assert process.poll() is None, "the dashboard ended before it answered"
        try:
            with urlopen(health, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError("the dashboard did not answer within 90 seconds")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A real browser: Debian's Chromium where there is one, else the one Playwright installed.

    Playwright holds an event loop while it is open; no other module may run under it.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()
