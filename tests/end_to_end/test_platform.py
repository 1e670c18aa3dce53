"""The whole platform: started by one command, runs from its deployment, and survives being shot at."""

import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from playwright.sync_api import sync_playwright
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    DeploymentFilter,
    DeploymentFilterId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelling

from catalog.connection import connect
from catalog.schemas import TABLES
from flows.endings import CANCELLED

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

DEPLOYMENT = "nightly/tiny"
RESUMED_WITHIN = {"flow": 90, "both": 240, "worker": 240}
CELLS = [(stage, victim) for stage in ("caching", "training", "explaining") for victim in RESUMED_WITHIN]
QUICK = {("training", "flow"), ("caching", "worker")}
PROGRESS = {
    "caching": "*/*/index.json",
    "training": "*/checkpoints/LATEST",
    "explaining": "*/explained.jsonl",
}
SLOW: dict[str, Any] = {
    "models": [{"id": "pico-a", "source": "embedded", "hookpoints": ["blocks.2.resid_post"]}],
    "activations": {
        "context_length": 64,
        "n_tokens": 60_000,
        "eval_share": 0.25,
        "batch_sequences": 16,
        "shard_mebibytes": 0.25,
    },
    "dictionaries": [{"architecture": "topk", "d_sae": 512, "k": 8, "lr": 0.001, "n_tokens": 600_000}],
    "match": [],
}
VARYING = {
    *("run_id", "prefect_flow_run_id", "deployment", "code_version", "summary", "attempt", "lease_token"),
    *("started_at", "finished_at", "created_at", "committed_at", "valid_from", "seconds", "latency_ms"),
    *("bytes", "sha256", "file_bytes", "files", "committed_in"),
}
WHERE = {"stage_runs": "where state = 'committed'", "slices": "where table_name <> 'runs'"}


@pytest.fixture(scope="module")
def client(platform: Any) -> Iterator[SyncPrefectClient]:
    with SyncPrefectClient(platform.api_url, auth_string=platform.key) as connected:
        yield connected


def start(client: SyncPrefectClient, name: str = DEPLOYMENT, **parameters: Any) -> FlowRun:
    deployment = client.read_deployment_by_name(name)
    return client.create_flow_run_from_deployment(deployment.id, parameters=parameters)


def wait_until_completed(client: SyncPrefectClient, run: FlowRun, seconds: float) -> FlowRun:
    deadline = time.monotonic() + seconds
    while True:
        seen = client.read_flow_run(run.id)
        assert seen.state is not None
        if seen.state.is_completed():
            return seen
        assert not seen.state.is_failed(), seen.state.message
        assert time.monotonic() < deadline, f"after {seconds:.0f} s the run is {seen.state.name}"
        time.sleep(0.5)


def of_deployment(client: SyncPrefectClient, name: str = DEPLOYMENT) -> DeploymentFilter:
    deployment = client.read_deployment_by_name(name)
    return DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))


def runs_by_hand(client: SyncPrefectClient) -> set[UUID]:
    runs = client.read_flow_runs(deployment_filter=of_deployment(client))
    return {run.id for run in runs if not run.auto_scheduled}


def summary_of(catalogue: Path, run: FlowRun) -> dict[str, Any]:
    with connect(catalogue) as connection:
        row = connection.execute(
            "select summary from runs where run_id = $id", {"id": str(run.id)}
        ).fetchone()
    assert row is not None
    return dict(json.loads(row[0]))


def contents(catalogue: Path) -> dict[str, list[str]]:
    """Every table as sorted rows, without what another run may have otherwise: ids of runs, times, sizes."""
    tables = {}
    with connect(catalogue) as connection:
        for name, spec in TABLES.items():
            varying = VARYING | ({"fingerprint", "slice", "subject"} if name == "runs" else set())
            columns = ", ".join(f'"{c.name}"' for c in spec.columns if c.name not in varying)
            where = WHERE.get(name, "")
            rows = connection.execute(f"select {columns} from {name} {where}").to_arrow_table()
            tables[name] = sorted(json.dumps(row, sort_keys=True, default=str) for row in rows.to_pylist())
    return tables


def test_the_deployment_runs_and_reports(platform: Any, client: SyncPrefectClient) -> None:
    deployment = client.read_deployment_by_name(DEPLOYMENT)
    assert [(s.slug, s.schedule.cron, s.active) for s in deployment.schedules] == [
        ("nightly", "0 2 * * *", True)
    ]
    run = wait_until_completed(client, start(client), 400)
    assert run.name.startswith("nightly ")
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
    artifacts = client.read_artifacts(artifact_filter=of_run)
    keys = " ".join(str(artifact.key) for artifact in artifacts)
    stages = ("load-corpus", "cache-activations", "train-dictionary", "mine-examples", "explain-features")
    assert [stage for stage in (*stages, "match-features", "summary", "catalogue") if stage not in keys] == []
    with connect(platform.catalogue) as connection:
        found = connection.execute("select state, deployment, flow from runs").fetchall()
    assert found == [("completed", "tiny", "nightly")]


def test_a_second_run_from_the_deployment_computes_nothing(platform: Any, client: SyncPrefectClient) -> None:
    run = wait_until_completed(client, start(client), 120)
    assert summary_of(platform.catalogue, run)["n_recomputed"] == 0


def test_the_schedule_makes_runs_at_two_o_clock_utc(client: SyncPrefectClient, wait_for: Any) -> None:
    def due() -> list[datetime]:
        runs = client.read_flow_runs(deployment_filter=of_deployment(client))
        return [run.expected_start_time for run in runs if run.auto_scheduled and run.expected_start_time]

    times = sorted(wait_for("scheduled runs", due, 90))
    assert {(at.astimezone(UTC).hour, at.minute) for at in times} == {(2, 0)}
    assert len({at.date() for at in times}) == len(times)


@pytest.mark.browser
def test_a_person_starts_a_run_from_the_form(platform: Any, client: SyncPrefectClient, wait_for: Any) -> None:
    before = runs_by_hand(client)
    deployment = client.read_deployment_by_name(DEPLOYMENT)
    address = f"http://127.0.0.1:{platform.port}/deployments"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1200})
        page.goto(address)
        page.get_by_placeholder("admin:pass").fill(platform.key)
        page.get_by_role("button", name="Login").click()
        page.get_by_text("deployments", exact=False).first.wait_for()
        page.goto(f"{address}/deployment/{deployment.id}")  # the list shows ten of them at once
        page.get_by_text("Schedules", exact=True).wait_for()
        page.get_by_text("nightly", exact=True).first.wait_for()
        page.goto(f"{address}/deployment/{deployment.id}/run")
        page.get_by_text("Name of a pipeline that comes with featlas").wait_for()
        page.wait_for_timeout(1_500)  # nobody presses a button before the form has filled itself
        page.get_by_role("button", name="Submit").click()
        (new,) = wait_for("the run", lambda: runs_by_hand(client) - before, 60)
        page.wait_for_url("**tab=Runs**")
        browser.close()
    run = wait_until_completed(client, client.read_flow_run(new), 120)
    assert summary_of(platform.catalogue, run)["n_recomputed"] == 0


def test_the_light_pool_explains_again_and_keeps_house(platform: Any, client: SyncPrefectClient) -> None:
    pipeline = str(platform.user.pipeline())
    explained = start(client, "reexplain/on-demand", pipeline=pipeline)
    kept = start(client, "housekeeping/daily")
    summary = summary_of(platform.catalogue, wait_until_completed(client, explained, 200))
    stages = {stage["stage"] for stage in summary["stages"]}
    assert {"explain_features", "score_explanations"} <= stages
    assert not {"match_features", "evaluate_dictionary"} & stages
    wait_until_completed(client, kept, 200)


def test_a_run_does_not_hold_the_heavy_pool_while_it_waits_for_an_endpoint(
    platform: Any, client: SyncPrefectClient, wait_for: Any
) -> None:
    catalogue = platform.user.folder / "asking"
    asking = {"explain": {"explainer": "contexts", "endpoint": "judge"}, "score": [], "match": []}
    pipeline = platform.user.pipeline("asking", **asking)
    started = start(client, pipeline=str(pipeline), catalogue=str(catalogue))
    wait_until_completed(client, started, 400)
    assert "explain_features" not in {one["stage"] for one in summary_of(catalogue, started)["stages"]}

    def handed_over() -> FlowRun | None:
        runs = client.read_flow_runs(deployment_filter=of_deployment(client, "reexplain/on-demand"))
        return next((run for run in runs if run.parameters.get("catalogue") == str(catalogue)), None)

    labelling = wait_for("the labelling run", handed_over, 60)
    assert labelling.work_pool_name == "featlas-cpu"
    assert labelling.parameters["found_only"] is True
    platform.model_answers.set()
    wait_until_completed(client, labelling, 200)
    with connect(catalogue) as connection:
        (labelled,) = connection.execute("select count(*) from explanations where status = 'ok'").fetchone()
    assert labelled > 0


def test_bad_parameters_are_refused_before_anything_runs(client: SyncPrefectClient) -> None:
    importing = "import-dictionary/on-demand"
    for name, parameters, fault in (
        (DEPLOYMENT, {"pipeline": "demo\nrm -rf /"}, "pipeline"),
        (DEPLOYMENT, {"pipelines": "demo"}, "pipelines"),
        (importing, {"format": "saelens"}, "path"),
        (importing, {"format": "sealens", "path": "x"}, "format"),
    ):
        with pytest.raises(Exception, match=fault):
            start(client, name, **parameters)


def test_a_failed_run_keeps_its_name_and_tells_the_webhook(
    platform: Any, client: SyncPrefectClient, wait_for: Any
) -> None:
    deployment = client.read_deployment_by_name(DEPLOYMENT)
    nowhere = {"pipeline": str(platform.user.folder / "nowhere.yaml")}
    run = client.create_flow_run_from_deployment(deployment.id, parameters=nowhere, name="before the change")
    wait_for("the alert", lambda: [text for text in platform.alerts if "before the change" in text], 120)
    assert "featlas: before the change failed: " in " ".join(platform.alerts)
    seen = client.read_flow_run(run.id)
    assert (seen.name, seen.state.name) == ("before the change", "Failed")


def test_a_run_that_is_cancelled_in_prefect_is_stored_as_cancelled(
    platform: Any, client: SyncPrefectClient, wait_for: Any
) -> None:
    catalogue = platform.user.folder / "cancelled"
    pipeline = platform.user.pipeline("slow", **SLOW)
    run = start(client, pipeline=str(pipeline), catalogue=str(catalogue))
    wait_for("caching", lambda: any((catalogue / "_scratch").glob("*/tokens")), 240, every=0.05)
    client.set_flow_run_state(run.id, Cancelling())

    def ended() -> list[tuple[str, str]]:
        with connect(catalogue) as connection:
            return connection.execute("select state, error from runs where state <> 'running'").fetchall()

    assert wait_for("the end of the run", ended, 120) == [("cancelled", CANCELLED)]
    wait_for("Prefect", lambda: client.read_flow_run(run.id).state.is_cancelled(), 60)
    with connect(catalogue) as connection:
        states = connection.execute("select distinct state from stage_runs").fetchall()
    assert not {"failed", "crashed"} & {state for (state,) in states}


def test_many_requests_at_once_are_all_accepted(platform: Any, client: SyncPrefectClient) -> None:
    """Each is asked once, as a person's page asks, which does not repeat a request after a 503."""
    assert "database   PostgreSQL in " in platform.log.read_text()

    def ask(_: int) -> UUID:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            SyncPrefectClient(platform.api_url, auth_string=platform.key) as asking,
        ):
            return start(asking, "housekeeping/daily").id

    with ThreadPoolExecutor(14) as people:
        runs = set(people.map(ask, range(28)))
    assert len(runs) == 28
    for run in runs:
        client.delete_flow_run(run)


def test_a_worker_that_dies_is_replaced(platform: Any, wait_for: Any) -> None:
    worker = platform.worker()
    worker.kill()
    wait_for("another worker", lambda: platform.worker() not in (None, worker), 60)


@pytest.fixture(scope="module")
def unbroken(platform: Any, client: SyncPrefectClient) -> dict[str, list[str]]:
    """What an undisturbed run leaves."""
    catalogue = platform.user.folder / "unbroken"
    pipeline = platform.user.pipeline("slow", **SLOW)
    wait_until_completed(client, start(client, pipeline=str(pipeline), catalogue=str(catalogue)), 400)
    return contents(catalogue)


@pytest.mark.parametrize(
    ("stage", "victim"),
    [pytest.param(*cell, marks=[] if cell in QUICK else pytest.mark.faults) for cell in CELLS],
)
def test_a_killed_run_ends_as_an_unbroken_one(
    stage: str, victim: str, platform: Any, client: SyncPrefectClient, unbroken: Any, wait_for: Any
) -> None:
    catalogue = platform.user.folder / f"{stage}-{victim}"
    pipeline = platform.user.pipeline("slow", **SLOW)
    run = start(client, pipeline=str(pipeline), catalogue=str(catalogue))
    scratch = catalogue / "_scratch"
    wait_for(f"the middle of {stage}", lambda: any(scratch.glob(PROGRESS[stage])), 240, every=0.05)
    flow, worker = platform.flow(), platform.worker()
    killed_at = time.monotonic()
    for process in {"flow": [flow], "worker": [worker], "both": [worker, flow]}[victim]:
        process.kill()
    if victim != "worker":
        again = RESUMED_WITHIN[victim]
        wait_for("a second attempt", lambda: client.read_flow_run(run.id).run_count >= 2, again)
        print(f"{stage}, {victim} killed: running again after {time.monotonic() - killed_at:.0f} s")
    wait_until_completed(client, run, RESUMED_WITHIN[victim] + 400)
    assert contents(catalogue) == unbroken
    assert not [p for p in psutil.process_iter() if str(catalogue / "_scratch") in " ".join(lines(p))]


@pytest.mark.faults
def test_a_server_that_restarts_loses_no_run(
    platform: Any, client: SyncPrefectClient, unbroken: Any, wait_for: Any
) -> None:
    catalogue = platform.user.folder / "server"
    pipeline = platform.user.pipeline("slow", **SLOW)
    run = start(client, pipeline=str(pipeline), catalogue=str(catalogue))
    pattern = PROGRESS["training"]
    wait_for("training", lambda: any((catalogue / "_scratch").glob(pattern)), 240, every=0.05)
    server = next(p for p in platform.supervisor.children() if "flows.api_server" in lines(p))
    server.kill()
    wait_for("the server", lambda: platform.is_healthy(), 120)
    wait_until_completed(client, run, 400)
    assert contents(catalogue) == unbroken


def lines(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
