"""What a server keeps when featlas starts again: the runs that its automations watch, and its own pages."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

import flows.automations
from flows.access import access_key
from flows.automations import automations_wanted
from flows.deployments import POOLS, _put_automation
from flows.engine import free_port, is_healthy, start_server

pytestmark = pytest.mark.engine


RESUMED = "featlas: a crashed run is resumed"


def registered(client: SyncPrefectClient) -> dict[str, str]:
    """Write every automation as `featlas up` does at each start; the id of its trigger by name."""
    for wanted in automations_wanted(list(POOLS), None):
        _put_automation(client, wanted.name, lambda: None)
    found = client.request("POST", "/automations/filter", json={}).json()
    return {one["name"]: one["trigger"]["id"] for one in found}


def test_a_second_start_leaves_the_automations_alone_and_a_change_arrives(
    server: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server knows the runs that a trigger watches by the trigger's id."""
    api_url, key = server
    settings = temporary_settings({PREFECT_API_URL: api_url, PREFECT_API_AUTH_STRING: key})
    with settings, get_client(sync_client=True) as client:
        first = registered(client)
        assert RESUMED in first
        assert registered(client) == first
        monkeypatch.setattr(flows.automations, "QUIET_SECONDS", 77)
        changed = registered(client)
        assert [name for name in first if changed[name] != first[name]] == [RESUMED]


def test_the_server_keeps_its_pages_in_its_home(tmp_path: Path, wait_for: Any) -> None:
    """The folder of the installation may be read-only, as it is for a service of systemd."""
    port, log = free_port(), tmp_path / "server.log"
    process = start_server(port, home=tmp_path, log=log, with_ui=True, with_services=False)
    try:
        wait_for("the Prefect server", lambda: is_healthy(f"http://127.0.0.1:{port}/api"), 120)
        page = httpx.get(f"http://127.0.0.1:{port}/", auth=tuple(access_key(tmp_path).split(":", 1)))
        assert "<!doctype html>" in page.text.lower()
        assert list((tmp_path / "ui").rglob("index.html"))
    finally:
        process.terminate()
        process.wait(20)
