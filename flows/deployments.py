"""What featlas registers at a Prefect server: pools, queues, limits, automations, deployments.

Each item has a name and replaces the item of that name, so registering again is safe. A deployment or
schedule that was paused by hand stays paused.
"""

import importlib
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import httpx
import stamina
import yaml
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyOptions
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.workers.process import ProcessWorker

from catalog.errors import UserError
from catalog.version import code_version
from flows.automations import automations_wanted, is_same, put_webhook
from flows.config import PipelineConfig, load_pipeline, pipeline_names
from flows.parameters import form

PREFECT_YAML = Path(__file__).with_name("prefect.yaml")
POOLS = {
    "featlas-cpu": "Light runs: explaining, scoring, housekeeping",
    "featlas-gpu": "Heavy runs, one at a time, on a GPU where there is one: caching, training, mining",
}
QUEUES = {"nightly": 20, "rerun": 10}
TRIES = 4


class Step(NamedTuple):
    """One item to register: its kind, its name, and the requests that register it."""

    kind: str
    name: str
    put: Callable[[], object]


class NotRegistered(UserError):
    """The server failed at a step; earlier steps stay registered."""


def read_deployments() -> list[dict[str, Any]]:
    """The deployments of ``prefect.yaml``, which is installed next to this file."""
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
    """Deployments of the file, of every scheduled pipeline that comes with featlas, and of your pipelines."""
    listed = read_deployments()
    known = {(entry["entrypoint"], entry["name"]) for entry in listed}
    for name in pipeline_names():
        config = load_pipeline(name)
        if config.schedule is not None and ("flows.nightly.nightly", name) not in known:
            listed.append(nightly_deployment(config, name))
    for path in pipeline_files:
        listed.append(nightly_deployment(load_pipeline(str(path)), str(path.absolute())))
    return listed


def steps(client: SyncPrefectClient, deployments: Sequence[dict[str, Any]]) -> list[Step]:
    """All items to register, in order; every step can be repeated."""
    webhook = cache(partial(put_webhook, client))
    pools = [Step("work pool", name, partial(_put_pool, client, name, text)) for name, text in POOLS.items()]
    automations = [
        Step("automation", one.name, partial(_put_automation, client, one.name, webhook))
        for one in automations_wanted(list(POOLS), None)
    ]
    named = [Step("deployment", full_name(one), partial(_put_deployment, client, one)) for one in deployments]
    return [*pools, *automations, *named]


def _say(text: str) -> None:
    print(text, flush=True)


def register(wanted: Sequence[Step], tell: Callable[[str], None] = _say) -> None:
    """Run the steps in order and report each; retry a step that the server cannot do now.

    Raises:
        NotRegistered: when a step keeps failing, with what is registered and what is not.
    """
    for number, step in enumerate(wanted):
        try:
            for attempt in stamina.retry_context(on=_may_pass, attempts=TRIES, timeout=None):
                with attempt:
                    if attempt.num > 1:
                        tell(
                            f"the Prefect server could not do {step.kind} {step.name} yet: try {attempt.num}"
                        )
                    step.put()
        except (httpx.HTTPError, PrefectException) as error:
            done, left = wanted[:number], wanted[number:]
            raise NotRegistered(
                f"the Prefect server failed at {step.kind} {step.name!r} ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]}); registered: {_listed(done)}; not registered: "
                f"{_listed(left)}; run it again, which is safe"
            ) from error
        tell(f"registered {number + 1} of {len(wanted)}: {step.kind} {step.name}")


def _may_pass(error: Exception) -> bool:
    """Whether the server may succeed a moment later: it was slow, busy, or had just restarted."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500 or error.response.status_code in (408, 429)
    return isinstance(error, httpx.TransportError)


def _listed(some: Sequence[Step]) -> str:
    return ", ".join(f"{step.kind} {step.name}" for step in some) or "nothing"


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


def full_name(entry: dict[str, Any]) -> str:
    """The name of a deployment in Prefect: ``flow/deployment``."""
    return f"{load_flow(entry['entrypoint']).name}/{entry['name']}"


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


def _put_automation(client: SyncPrefectClient, name: str, webhook: Callable[[], UUID | None]) -> None:
    wanted = next(one for one in automations_wanted(list(POOLS), webhook()) if one.name == name)
    existing = client.read_automations_by_name(wanted.name)
    for double in existing[1:]:
        client.delete_automation(double.id)
    if existing:
        kept = wanted.model_copy(update={"enabled": existing[0].enabled})
        if not is_same(existing[0], kept):
            client.update_automation(existing[0].id, kept)
    else:
        client.create_automation(wanted)


def _put_deployment(client: SyncPrefectClient, entry: dict[str, Any]) -> None:
    flow = load_flow(entry["entrypoint"])
    existing = _existing(client, full_name(entry))
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
        parameter_openapi_schema=form(flow),
        enforce_parameter_schema=True,
        work_pool_name=entry["work_pool"]["name"],
        work_queue_name=entry["work_pool"]["work_queue_name"],
        concurrency_limit=options.limit,
        concurrency_options=ConcurrencyOptions(collision_strategy=options.collision_strategy),
        schedules=[_schedule(schedule, existing) for schedule in entry["schedules"]],
        paused=existing.paused if existing is not None else False,
        pull_steps=[],
    )


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
