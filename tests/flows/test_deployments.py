"""Deployment names, parameters and schedules are public: people click and script them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import stamina
import yaml
from prefect.utilities.names import generate_slug

from catalog.errors import UserError
from flows.automations import alerts, recoveries
from flows.config import load_pipeline, pipeline_names
from flows.deployments import (
    POOLS,
    QUEUES,
    NotRegistered,
    Step,
    all_deployments,
    full_name,
    load_flow,
    nightly_deployment,
    read_deployments,
    register,
)
from flows.graph import NEEDS
from flows.parameters import form, is_generated, run_name
from tasks.foreign.format import FORMATS

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "deployments.json"
DEPLOYMENTS = read_deployments()


def public_surface() -> dict[str, Any]:
    surface = {}
    for entry in all_deployments():
        schema = form(load_flow(entry["entrypoint"]))
        surface[full_name(entry)] = {
            "parameters": sorted(schema["properties"]),
            "required": sorted(schema.get("required", ())),
            "defaults": entry["parameters"],
            "schedules": [f"{s['slug']}: {s['cron']} {s['timezone']}" for s in entry["schedules"]],
            "work_pool": "/".join(entry["work_pool"].values()),
        }
    return surface


def test_the_public_surface_is_as_promised() -> None:
    assert public_surface() == json.loads(GOLDEN.read_text()), (
        f"deployments changed: tell users in CHANGELOG.md, then write the new surface to {GOLDEN}"
    )


@pytest.mark.parametrize("entry", DEPLOYMENTS, ids=full_name)
def test_a_deployment_can_be_imported_and_run_with_its_parameters(entry: dict[str, Any]) -> None:
    flow = load_flow(entry["entrypoint"])
    assert ":" not in entry["entrypoint"], "a path entrypoint puts flows/ on sys.path"
    by_hand = {"format": "saelens", "path": "weights", "dictionaries": ["pico-a/*"]}
    by_hand = {name: by_hand[name] for name in flow.parameters.required if name != "pipeline"}
    checked = flow.validate_parameters(
        {"pipeline": "demo"} | by_hand | entry["parameters"] if flow.parameters.required else {}
    )
    assert checked.keys() <= flow.parameters.properties.keys()
    assert entry["work_pool"]["name"] in POOLS
    assert entry["work_pool"]["work_queue_name"] in QUEUES
    assert [s for s in entry["schedules"] if s["timezone"] != "UTC" or not s["slug"]] == []


@pytest.mark.parametrize("entry", DEPLOYMENTS, ids=full_name)
def test_every_parameter_is_flat_and_explained(entry: dict[str, Any]) -> None:
    schema = form(load_flow(entry["entrypoint"]))
    assert schema["additionalProperties"] is False
    for name, field in schema["properties"].items():
        assert field.get("description"), f"{name} has no help text"
        assert field["type"] in ("string", "boolean", "integer", "array"), f"{name} is not flat"
        assert ("default" in field) != (name in schema.get("required", ())), name


def test_what_a_run_cannot_do_without_is_required_and_known_values_are_listed() -> None:
    schemas = {full_name(entry): form(load_flow(entry["entrypoint"])) for entry in DEPLOYMENTS}
    required = {name: schema.get("required", []) for name, schema in schemas.items()}
    for import_ in ("import-dictionary/on-demand", "import-dictionary/labels"):
        assert required.pop(import_) == ["format", "path", "pipeline"]
    for observe in ("observe/on-demand", "observe/labels"):
        assert required.pop(observe) == ["dictionaries", "pipeline"]
    assert required.pop("housekeeping/daily") == required.pop("backfill/on-demand") == []
    assert set(map(tuple, required.values())) == {("pipeline",)}
    fields = schemas["import-dictionary/on-demand"]["properties"]
    assert fields["format"]["enum"] == sorted(FORMATS)
    assert fields["path"]["minLength"] == 1
    stages = schemas["nightly/demo"]["properties"]["stages"]["items"]
    assert stages["enum"] == list(NEEDS)


@pytest.mark.parametrize(
    "name", ["before the change", "second-try", "nightly demo 2026-01-01 02:00", "x", "2"]
)
def test_a_name_that_a_person_gave_is_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__NAME", name)
    assert run_name("nightly", "demo") == name


def test_a_name_that_prefect_made_up_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up = {generate_slug(2) for _ in range(500)}
    assert [name for name in made_up if not is_generated(name)] == []
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__NAME", made_up.pop())
    assert run_name("nightly", "demo").startswith("nightly demo 20")


@pytest.mark.parametrize("name", [name for name in pipeline_names() if load_pipeline(name).schedule])
def test_every_scheduled_pipeline_is_deployed_as_its_file_says(name: str) -> None:
    listed = {entry["name"]: entry for entry in DEPLOYMENTS if entry["entrypoint"] == "flows.nightly.nightly"}
    wanted = nightly_deployment(load_pipeline(name), name)
    assert {**listed[name], "description": ""} == {**wanted, "description": ""}


def test_a_pipeline_of_ones_own_is_deployed_by_path(tmp_path: Path) -> None:
    values = yaml.safe_load(
        (Path(load_pipeline.__code__.co_filename).parent / "pipelines/demo.yaml").read_text()
    )
    values |= {"name": "mine", "schedule": {"cron": "30 3 * * *"}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    entry = all_deployments([path])[-1]
    assert full_name(entry) == "nightly/mine"
    assert entry["parameters"] == {"pipeline": str(path)}
    assert entry["schedules"][0]["cron"] == "30 3 * * *"


def test_a_pipeline_without_schedule_cannot_be_deployed(tmp_path: Path) -> None:
    config = load_pipeline("demo", ["schedule=null"])
    with pytest.raises(UserError, match="has no schedule"):
        nightly_deployment(config, "demo")


def test_killed_runs_come_back_by_two_automations() -> None:
    zombie, resume = recoveries(list(POOLS))
    assert zombie.trigger.within.total_seconds() == 90
    assert zombie.trigger.after == {"prefect.flow-run.heartbeat"}
    assert zombie.actions[0].state.value == "CRASHED"
    assert resume.trigger.within.total_seconds() == 30
    assert resume.trigger.after == {"prefect.flow-run.Crashed"}
    assert resume.actions[0].name == "AwaitingRetry"
    assert {zombie.trigger.posture.value, resume.trigger.posture.value} == {"Proactive"}


def test_alerts_call_the_webhook_if_there_is_one() -> None:
    webhook = uuid4()
    names = ["a run failed", "a run is late", "a pool is not ready", "nothing fresh"]
    names.append("a metric is out of its range")
    assert [one.name for one in alerts(list(POOLS), None)] == [f"featlas: {name}" for name in names]
    assert {one.actions[0].type for one in alerts(list(POOLS), None)} == {"do-nothing"}
    assert {one.actions[0].block_document_id for one in alerts(list(POOLS), webhook)} == {webhook}


class Unsteady:
    """A step that fails a number of times with this error, and then works."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self) -> None:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error


@pytest.fixture
def quick() -> Iterator[None]:
    """Tries without pauses."""
    with stamina.set_testing(True, attempts=4, cap=True):
        yield


@pytest.mark.usefixtures("quick")
def test_a_slow_server_is_tried_again_and_every_step_is_told() -> None:
    slow = Unsteady(2, httpx.ReadTimeout("slow"))
    told: list[str] = []
    register([Step("work pool", "a", lambda: None), Step("deployment", "b/c", slow)], told.append)
    assert slow.calls == 3
    assert told[0] == "registered 1 of 2: work pool a"
    assert told[-1] == "registered 2 of 2: deployment b/c"
    assert len(told) == 4


@pytest.mark.usefixtures("quick")
def test_a_server_that_fails_names_what_is_registered_and_what_is_not() -> None:
    gone = Unsteady(99, httpx.ConnectError("no"))
    wanted = [
        Step("work pool", "a", lambda: None),
        Step("deployment", "b", gone),
        Step("deployment", "c", gone),
    ]
    with pytest.raises(NotRegistered) as failed:
        register(wanted, lambda _: None)
    text = str(failed.value)
    assert "failed at deployment 'b'" in text
    assert "registered: work pool a; not registered: deployment b, deployment c" in text
    assert gone.calls == 4


@pytest.mark.usefixtures("quick")
def test_what_the_server_refuses_is_not_tried_again() -> None:
    request = httpx.Request("POST", "http://x")
    refused = Unsteady(99, httpx.HTTPStatusError("422", request=request, response=httpx.Response(422)))
    with pytest.raises(NotRegistered, match="registered: nothing"):
        register([Step("deployment", "b", refused)], lambda _: None)
    assert refused.calls == 1
