"""Deployment names, parameters and schedules are public: people click and script them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.utilities.callables import parameter_schema

from catalog.errors import UserError
from flows.config import load_pipeline, pipeline_names
from flows.deployments import (
    POOLS,
    QUEUES,
    all_deployments,
    automations_wanted,
    load_flow,
    nightly_deployment,
    read_deployments,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "deployments.json"
DEPLOYMENTS = read_deployments()


def full_name(entry: dict[str, Any]) -> str:
    return f"{load_flow(entry['entrypoint']).name}/{entry['name']}"


def public_surface() -> dict[str, Any]:
    surface = {}
    for entry in all_deployments():
        schema = parameter_schema(load_flow(entry["entrypoint"])).model_dump_for_openapi()
        surface[full_name(entry)] = {
            "parameters": sorted(schema["properties"]),
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
    assert flow.validate_parameters(entry["parameters"]).keys() <= flow.parameters.properties.keys()
    assert entry["work_pool"]["name"] in POOLS
    assert entry["work_pool"]["work_queue_name"] in QUEUES
    assert [s for s in entry["schedules"] if s["timezone"] != "UTC" or not s["slug"]] == []


@pytest.mark.parametrize("entry", DEPLOYMENTS, ids=full_name)
def test_every_parameter_is_flat_and_explained(entry: dict[str, Any]) -> None:
    schema = parameter_schema(load_flow(entry["entrypoint"])).model_dump_for_openapi()
    for name, field in schema["properties"].items():
        assert field.get("description"), f"{name} has no help text"
        assert field["type"] in ("string", "boolean", "integer", "array"), f"{name} is not flat"
        assert "default" in field, f"{name} would have to be filled in by hand"


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
    zombie, resume = automations_wanted()
    assert zombie.trigger.within.total_seconds() == 90
    assert zombie.trigger.after == {"prefect.flow-run.heartbeat"}
    assert zombie.actions[0].state.value == "CRASHED"
    assert resume.trigger.within.total_seconds() == 30
    assert resume.trigger.after == {"prefect.flow-run.Crashed"}
    assert resume.actions[0].name == "AwaitingRetry"
    assert {zombie.trigger.posture.value, resume.trigger.posture.value} == {"Proactive"}
