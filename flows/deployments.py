"""What a Prefect server must know of featlas: pools, queues, limits, automations, deployments.

Everything is named and put in place of what has that name, so that registering is safe to repeat. A
deployment or schedule that was paused by hand stays paused.
"""

import importlib
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyOptions, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker

from catalog.errors import UserError
from catalog.version import code_version
from flows.config import PipelineConfig, load_pipeline, pipeline_names

PREFECT_YAML = Path(__file__).with_name("prefect.yaml")
POOLS = {
    "featlas-cpu": "Light runs: explaining, scoring, housekeeping",
    "featlas-gpu": "Heavy runs, one at a time, on a GPU where there is one: caching, training, mining",
}
QUEUES = {"nightly": 20, "rerun": 10}
LLM_LIMIT = "featlas-llm"
LLM_SLOTS = 2
ZOMBIE_SECONDS = 90
QUIET_SECONDS = 30


class Registered(NamedTuple):
    """What `register` put in place, by name."""

    pools: list[str]
    automations: list[str]
    deployments: list[str]


def read_deployments() -> list[dict[str, Any]]:
    """The deployments of ``prefect.yaml``, which is installed beside this file."""
    return list(yaml.safe_load(PREFECT_YAML.read_text(encoding="utf-8"))["deployments"])


def nightly_deployment(config: PipelineConfig, pipeline: str) -> dict[str, Any]:
    """The deployment of a scheduled pipeline, in the form of ``prefect.yaml``.

    Raises:
        UserError: when the pipeline has no schedule.
    """
    if config.schedule is None:
        raise UserError(
            f"pipeline {config.name!r} has no schedule: add schedule: {{cron: '0 2 * * *'}} to it"
        )
    schedule = {"slug": "nightly", "cron": config.schedule.cron, "timezone": config.schedule.timezone}
    return {
        "name": config.name,
        "entrypoint": "flows.nightly.nightly",
        "description": config.description,
        "tags": ["featlas"],
        "parameters": {"pipeline": pipeline},
        "work_pool": {"name": "featlas-gpu", "work_queue_name": "nightly"},
        "concurrency_limit": {"limit": 1, "collision_strategy": "ENQUEUE"},
        "schedules": [schedule],
    }


def all_deployments(pipeline_files: Sequence[Path] = ()) -> list[dict[str, Any]]:
    """Deployments of the file, of every scheduled pipeline that comes with featlas, and of yours."""
    listed = read_deployments()
    known = {(entry["entrypoint"], entry["name"]) for entry in listed}
    for name in pipeline_names():
        config = load_pipeline(name)
        if config.schedule is not None and ("flows.nightly.nightly", name) not in known:
            listed.append(nightly_deployment(config, name))
    for path in pipeline_files:
        listed.append(nightly_deployment(load_pipeline(str(path)), str(path.absolute())))
    return listed


def register(client: SyncPrefectClient, deployments: Sequence[dict[str, Any]]) -> Registered:
    """Put pools, queues, limits, automations and deployments in place; safe to repeat."""
    for name, description in POOLS.items():
        _put_pool(client, name, description)
    client.upsert_global_concurrency_limit_by_name(LLM_LIMIT, LLM_SLOTS)
    automations = [_put_automation(client, automation) for automation in automations_wanted()]
    names = [_put_deployment(client, entry) for entry in deployments]
    return Registered(list(POOLS), automations, names)


def automations_wanted() -> list[AutomationCore]:
    """The two automations that bring a killed run back without a hand.

    A run whose heartbeat stops is declared crashed. A crashed run of a work pool that stays quiet for a
    while is started again: the quiet time lets the worker's own late crash report pass, which would
    otherwise kill the new attempt.
    """
    endings = {"Completed", "Failed", "Crashed", "Cancelled", "Cancelling", "Paused", "Suspended"}
    every_run = ResourceSpecification(root={"prefect.resource.id": "prefect.flow-run.*"})
    of_a_pool = ResourceSpecification(
        root={"prefect.resource.role": "work-pool", "prefect.resource.name": list(POOLS)}
    )
    zombie = EventTrigger(
        posture=Posture.Proactive,
        match=every_run,
        match_related=of_a_pool,
        for_each={"prefect.resource.id"},
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{state}" for state in endings)},
        threshold=1,
        within=timedelta(seconds=ZOMBIE_SECONDS),
    )
    resume = EventTrigger(
        posture=Posture.Proactive,
        match=every_run,
        match_related=of_a_pool,
        for_each={"prefect.resource.id"},
        after={"prefect.flow-run.Crashed"},
        expect={"prefect.flow-run.*"},
        threshold=1,
        within=timedelta(seconds=QUIET_SECONDS),
    )
    return [
        AutomationCore(
            name="featlas: a silent run is crashed",
            description=f"No heartbeat for {ZOMBIE_SECONDS} s: worker and flow are gone",
            enabled=True,
            trigger=zombie,
            actions=[
                ChangeFlowRunState(
                    state=StateType.CRASHED, name="Crashed", message="no heartbeat: its process is gone"
                )
            ],
        ),
        AutomationCore(
            name="featlas: a crashed run is resumed",
            description=f"Crashed, then quiet for {QUIET_SECONDS} s: start it again",
            enabled=True,
            trigger=resume,
            actions=[
                ChangeFlowRunState(
                    state=StateType.SCHEDULED, name="AwaitingRetry", message="resumed after a crash"
                )
            ],
        ),
    ]


def load_flow(entrypoint: str) -> Flow[Any, Any]:
    """The flow at a module-path entrypoint such as ``flows.nightly.nightly``.

    Raises:
        UserError: when there is no flow of that name.
    """
    module, _, name = entrypoint.rpartition(".")
    found = getattr(importlib.import_module(module), name, None)
    if not isinstance(found, Flow):
        raise UserError(f"deployment entrypoint {entrypoint!r} is not a flow")
    return found


def _put_pool(client: SyncPrefectClient, name: str, description: str) -> None:
    template = ProcessWorker.get_default_base_job_template()
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(
            WorkPoolCreate(name=name, type="process", description=description, base_job_template=template)
        )
    for queue, priority in QUEUES.items():
        try:
            found = client.read_work_queue_by_name(queue, work_pool_name=name)
        except ObjectNotFound:
            client.create_work_queue(queue, work_pool_name=name, priority=priority)
        else:
            client.update_work_queue(found.id, priority=priority)


def _put_automation(client: SyncPrefectClient, wanted: AutomationCore) -> str:
    first, *doubles = client.read_automations_by_name(wanted.name) or [None]
    for double in doubles:
        if double is not None:
            client.delete_automation(double.id)
    if first is None:
        client.create_automation(wanted)
    else:
        client.update_automation(first.id, wanted.model_copy(update={"enabled": first.enabled}))
    return wanted.name


def _put_deployment(client: SyncPrefectClient, entry: dict[str, Any]) -> str:
    flow = load_flow(entry["entrypoint"])
    existing = _existing(client, f"{flow.name}/{entry['name']}")
    limit = entry["concurrency_limit"]
    options = ConcurrencyLimitConfig(limit=limit["limit"], collision_strategy=limit["collision_strategy"])
    client.create_deployment(
        flow_id=client.create_flow(flow),
        name=entry["name"],
        version=code_version(),
        entrypoint=entry["entrypoint"],
        description=entry["description"],
        tags=entry["tags"],
        parameters=entry["parameters"],
        parameter_openapi_schema=parameter_schema(flow).model_dump_for_openapi(),
        enforce_parameter_schema=True,
        work_pool_name=entry["work_pool"]["name"],
        work_queue_name=entry["work_pool"]["work_queue_name"],
        concurrency_limit=options.limit,
        concurrency_options=ConcurrencyOptions(collision_strategy=options.collision_strategy),
        schedules=[_schedule(schedule, existing) for schedule in entry["schedules"]],
        paused=existing.paused if existing is not None else False,
        pull_steps=[],
    )
    return f"{flow.name}/{entry['name']}"


def _existing(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _schedule(wanted: dict[str, Any], existing: DeploymentResponse | None) -> DeploymentScheduleCreate:
    kept = {schedule.slug: schedule.active for schedule in existing.schedules} if existing else {}
    return DeploymentScheduleCreate(
        slug=wanted["slug"],
        schedule=CronSchedule(cron=wanted["cron"], timezone=wanted["timezone"]),
        active=kept.get(wanted["slug"], True),
    )
