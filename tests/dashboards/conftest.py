"""The synthetic catalogue, a server that shows it, and a browser, each once per test session."""

import importlib.util
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page, TimeoutError, expect, sync_playwright

from dashboards import links
from dashboards.launch import command, environment

WAIT = 45_000
Visit = Callable[..., Page]
Lead = Callable[..., None]


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


@pytest.fixture
def drawn() -> Callable[[Page], None]:
    """Wait until a page is drawn to its foot and nothing of an earlier run is left."""

    def wait(page: Page) -> None:
        page.get_by_text("All times are UTC.").wait_for(timeout=WAIT)
        idle = "() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState !== 'running'"
        page.wait_for_function(idle, timeout=WAIT)
        expect(page.locator("[data-stale=true]")).to_have_count(0, timeout=WAIT)

    return wait


@pytest.fixture
def lead() -> Lead:
    """Act until the address is as expected, at most three times.

    On a busy machine an element is drawn again between press and release of the mouse: the browser sees no
    click.
    """

    def act(page: Page, action: Callable[[], None], url: str | Callable[[str], bool]) -> None:
        for _ in range(3):
            action()
            try:
                return page.wait_for_url(url, timeout=WAIT / 3)
            except TimeoutError:
                continue
        raise AssertionError(f"acted three times, and the address stays {page.url}")

    return act


@pytest.fixture
def visit(server: str, chromium: Browser, drawn: Callable[[Page], None]) -> Iterator[Visit]:
    """Open an address in a new window and wait until the page is drawn to its foot."""
    contexts = []

    def go(address: str, width: int = 1280, scheme: str = "light", **options: bool) -> Page:
        size = {"width": width, "height": 900}
        context = chromium.new_context(viewport=size, color_scheme=scheme, **options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.goto(f"{server}/{address}")
        drawn(page)
        return page

    yield go
    for context in contexts:
        context.close()


def _sets(synthetic: ModuleType) -> list[str]:
    return [synthetic.activation_set_of(model) for model in synthetic.MODELS]


@pytest.fixture
def addresses(synthetic: ModuleType) -> dict[str, str]:
    """An address of every page, with evidence on it."""
    a, b = (synthetic.dictionary_of(model) for model in synthetic.MODELS)
    return {
        "overview": "",
        "browse": "browse?q=the",
        "feature": links.feature(a, 5),
        "compare dictionaries": links.compare(a, b),
        "compare features": links.compare(f"{a}#5", f"{b}#8"),
        "changes": links.changes(a, *_sets(synthetic), "models pico-a | pico-b"),
        "runs": "runs",
        "sql": "sql",
    }
