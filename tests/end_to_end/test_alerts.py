"""Every alert reaches the webhook of a real server when its case comes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Failed, Scheduled

import flows.automations
from flows.access import access_key
from flows.automations import WEBHOOK_VARIABLE, alerts
from flows.deployments import POOLS, all_deployments, full_name, register, steps
from flows.engine import free_port, is_healthy, start_server
from tests.end_to_end.conftest import webhook

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

NIGHTLY = "nightly/demo"
QUICK = {
    "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "2",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_FOREMAN_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_FOREMAN_INACTIVITY_HEARTBEAT_MULTIPLE": "1",
}
FRESH_SECONDS = 12.0
"""The shortest time that Prefect takes for an absence is ten seconds."""
FRESH = "featlas: no run of nightly/unattended completed for"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, wait_for: Any) -> Iterator[tuple[Any, list[str]]]:
    """A server with all that `featlas deploy` registers and no worker: a client, and what the chat got."""
    home: Path = tmp_path_factory.mktemp("prefect")
    port = free_port()
    address = f"http://127.0.0.1:{port}/api"
    with pytest.MonkeyPatch.context() as patched, webhook() as (url, texts):
        for name, value in {**QUICK, WEBHOOK_VARIABLE: url}.items():
            patched.setenv(name, value)
        patched.setattr(flows.automations, "FRESH_HOURS", FRESH_SECONDS / 3600)
        server = start_server(port, home=home, log=home / "server.log", with_ui=False, with_services=True)
        try:
            wait_for("the Prefect server", lambda: is_healthy(address), 120)
            with SyncPrefectClient(address, auth_string=access_key(home)) as client:
                (nightly,) = (one for one in all_deployments() if full_name(one) == NIGHTLY)
                unattended = {**nightly, "name": "unattended", "schedules": []}
                register(steps(client, [nightly, unattended]), lambda _: None)
                yield client, texts
        finally:
            server.terminate()
            server.wait(30)


def start(client: SyncPrefectClient, name: str, deployment: str = NIGHTLY, seconds: float = 0.0) -> Any:
    """A run that is due after some seconds."""
    due = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(seconds=seconds))
    found = client.read_deployment_by_name(deployment)
    return client.create_flow_run_from_deployment(found.id, name=name, state=due)


def a_run_failed(client: SyncPrefectClient) -> str:
    client.set_flow_run_state(start(client, "first").id, Failed(message="the disk is full"), force=True)
    return "featlas: first failed: the disk is full"


def a_run_is_late(client: SyncPrefectClient) -> str:
    start(client, "second")
    return "featlas: second is late: no worker took it"


def a_pool_is_not_ready(client: SyncPrefectClient) -> str:
    client.send_worker_heartbeat("featlas-gpu", "a worker that is killed", heartbeat_interval_seconds=1)
    return "featlas: no worker polls featlas-gpu"


def nothing_fresh(client: SyncPrefectClient) -> str:
    start(client, "third", "nightly/unattended", 2 * FRESH_SECONDS)
    return FRESH


CASES = {
    "a run failed": a_run_failed,
    "a run is late": a_run_is_late,
    "a pool is not ready": a_pool_is_not_ready,
    "nothing fresh": nothing_fresh,
}


@pytest.mark.parametrize("name", CASES)
def test_an_alert_reaches_the_webhook(name: str, told: Any, wait_for: Any) -> None:
    client, texts = told
    wanted = CASES[name](client)
    wait_for(f"the alert {wanted!r}", lambda: [text for text in texts if text.startswith(wanted)], 120)


def test_nothing_fresh_is_said_again_when_the_next_run_is_late(told: Any, wait_for: Any) -> None:
    """The run of the case before was due after the first alert; Prefect says nothing when it schedules."""
    _, texts = told
    wait_for("the second alert", lambda: texts.count(next(t for t in texts if t.startswith(FRESH))) > 1, 120)


def test_every_alert_has_its_case() -> None:
    """`test_drift` covers the event of the alarms."""
    names = {one.name.removeprefix("featlas: ") for one in alerts(list(POOLS), None)}
    assert names - set(CASES) == {"a metric is out of its range"}
