"""Automations of the Prefect server: they restart killed runs and report problems to a webhook."""

import os
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import BlockDocumentCreate, BlockDocumentUpdate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState, DoNothing
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound

from catalog.ids import canonical_json
from flows.run_links import ALARM_EVENT

WEBHOOK_VARIABLE = "FEATLAS_WEBHOOK_URL"
WEBHOOK_BLOCK = "featlas-alerts"
ZOMBIE_SECONDS = 90
"""Three heartbeats of a run (`HEARTBEAT_SECONDS`): one lost message is no crash."""
QUIET_SECONDS = 30
"""The worker reports a crash within seconds; a later report would kill the new attempt."""
FRESH_HOURS = 26
"""A daily schedule and two hours for the run itself."""


def automations_wanted(pools: list[str], webhook: UUID | None) -> list[AutomationCore]:
    """All automations that featlas keeps on a server; alerts call the webhook if there is one."""
    return [*recoveries(pools), *alerts(pools, webhook)]


def is_same(registered: AutomationCore, wanted: AutomationCore) -> bool:
    """Whether the server has an automation as it should be.

    Writing it again would give its trigger another id. The server would then forget which runs it watches,
    and never miss a run whose process ended with the server.
    """
    return _facts(registered) == _facts(wanted)


def _facts(automation: AutomationCore) -> str:
    return _without_ids(automation.model_dump(mode="json", include=set(AutomationCore.model_fields)))


def _without_ids(value: Any) -> str:
    """A JSON value as text, without ids and without an order of lists, which are sets."""
    if isinstance(value, dict):
        return canonical_json({name: _without_ids(one) for name, one in value.items() if name != "id"})
    if isinstance(value, list):
        return canonical_json(sorted(map(_without_ids, value)))
    return canonical_json(value)


def _of_pools(pools: list[str]) -> ResourceSpecification:
    """Resources related to one of our work pools."""
    return ResourceSpecification(
        root={"prefect.resource.role": "work-pool", "prefect.resource.name": list(pools)}
    )


def _of(kind: str) -> ResourceSpecification:
    return ResourceSpecification(root={"prefect.resource.id": f"prefect.{kind}.*"})


def _absence(pools: list[str], after: str, expect: set[str], seconds: float) -> EventTrigger:
    """Fires for a run of our pools if none of the expected events follows an event in time."""
    return EventTrigger(
        posture=Posture.Proactive,
        match=_of("flow-run"),
        match_related=_of_pools(pools),
        for_each={"prefect.resource.id"},
        after={f"prefect.flow-run.{after}"},
        expect={f"prefect.flow-run.{event}" for event in expect},
        threshold=1,
        within=timedelta(seconds=seconds),
    )


def recoveries(pools: list[str]) -> list[AutomationCore]:
    """The two automations that restart a killed run without a person.

    The first one declares a run crashed when its heartbeat stops. The second one starts a crashed run of a
    work pool again after some time without events. Within that time the worker sends its own late crash
    report, which would otherwise stop the new attempt.
    """
    endings = {"Completed", "Failed", "Crashed", "Cancelled", "Cancelling", "Paused", "Suspended"}
    gone, resumed = "no heartbeat: the process is gone", "started again after a crash"
    return [
        AutomationCore(
            name="featlas: a silent run is crashed",
            description=f"No heartbeat for {ZOMBIE_SECONDS} s: worker and flow are gone",
            enabled=True,
            trigger=_absence(pools, "heartbeat", {"heartbeat", *endings}, ZOMBIE_SECONDS),
            actions=[_change(StateType.CRASHED, "Crashed", gone)],
        ),
        AutomationCore(
            name="featlas: a crashed run is resumed",
            description=f"Crashed, then no event for {QUIET_SECONDS} s: start it again",
            enabled=True,
            trigger=_absence(pools, "Crashed", {"*"}, QUIET_SECONDS),
            actions=[_change(StateType.SCHEDULED, "AwaitingRetry", resumed)],
        ),
    ]


def _change(state: StateType, name: str, message: str) -> ChangeFlowRunState:
    return ChangeFlowRunState(state=state, name=name, message=message, force=False)


def _presence(pools: list[str], state: str) -> EventTrigger:
    """Fires when a run of our pools enters a state."""
    return EventTrigger(
        posture=Posture.Reactive,
        match=_of("flow-run"),
        match_related=_of_pools(pools),
        for_each={"prefect.resource.id"},
        expect={f"prefect.flow-run.{state}"},
        threshold=1,
    )


def _pool_not_ready(pools: list[str]) -> EventTrigger:
    named: dict[str, str | list[str]] = {
        "prefect.resource.id": "prefect.work-pool.*",
        "prefect.resource.name": list(pools),
    }
    return EventTrigger(
        posture=Posture.Reactive,
        match=ResourceSpecification(root=named),
        for_each={"prefect.resource.id"},
        expect={"prefect.work-pool.not-ready"},
        threshold=1,
    )


def _alarm() -> EventTrigger:
    """Fires for each metric that left the range of its past nights (`flows.drift`)."""
    return EventTrigger(
        posture=Posture.Reactive,
        match=ResourceSpecification(root={"prefect.resource.id": "featlas.metric.*"}),
        for_each={"prefect.resource.id"},
        expect={ALARM_EVENT},
        threshold=1,
    )


def _nothing_fresh() -> EventTrigger:
    """Fires for a deployment of `nightly` if no run of it completed in time.

    The time counts from a completed run, else from the first sign of any other: Prefect sends no event when
    it schedules a run, but one when the run starts or is late.
    """
    nightly: dict[str, str | list[str]] = {
        "prefect.resource.role": "flow",
        "prefect.resource.name": "nightly",
    }
    return EventTrigger(
        posture=Posture.Proactive,
        match=_of("flow-run"),
        match_related=ResourceSpecification(root=nightly),
        for_each={"related:deployment:prefect.resource.id"},
        after={f"prefect.flow-run.{state}" for state in ("Scheduled", "Late", "Running", "Completed")},
        expect={"prefect.flow-run.Completed"},
        threshold=1,
        within=timedelta(hours=FRESH_HOURS),
    )


def alerts(pools: list[str], webhook: UUID | None) -> list[AutomationCore]:
    """Alerts for people: a run failed, a run is late, a pool has no worker, no new results for a day,
    a metric out of its range.

    Without a webhook they also fire, and the event feed of the Prefect UI shows them.
    """
    why = "(flow_run.state.message or 'without a message')"
    quiet = f"'no run of nightly/' ~ deployment.name ~ ' completed for {FRESH_HOURS} hours'"
    wanted = [
        ("a run failed", _presence(pools, "Failed"), f"flow_run.name ~ ' failed: ' ~ {why}"),
        ("a run is late", _presence(pools, "Late"), "flow_run.name ~ ' is late: no worker took it'"),
        ("a pool is not ready", _pool_not_ready(pools), "'no worker polls ' ~ work_pool.name"),
        ("nothing fresh", _nothing_fresh(), quiet),
        ("a metric is out of its range", _alarm(), "event.payload.message ~ ' ' ~ event.payload.link"),
    ]
    return [
        AutomationCore(
            name=f"featlas: {name}",
            description=f"Posts to the webhook {WEBHOOK_BLOCK}, if there is one",
            enabled=True,
            trigger=trigger,
            actions=[_call(webhook, text) if webhook else DoNothing()],
        )
        for name, trigger, text in wanted
    ]


def _call(webhook: UUID, text: str) -> CallWebhook:
    """Post ``{"text": ...}``, which chat services read; the server evaluates the expression ``text``."""
    return CallWebhook(
        block_document_id=webhook, payload="{\"text\": {{ ('featlas: ' ~ " + text + ") | tojson }}}"
    )


def put_webhook(client: SyncPrefectClient) -> UUID | None:
    """The webhook of the alerts: the one at ``FEATLAS_WEBHOOK_URL``, else the one stored earlier."""
    try:
        existing = client.read_block_document_by_name(WEBHOOK_BLOCK, "webhook")
    except ObjectNotFound:
        existing = None
    url = os.environ.get(WEBHOOK_VARIABLE)
    if not url:
        return existing.id if existing else None
    data = {"url": url, "method": "POST", "headers": {"Content-Type": "application/json"}}
    if existing is not None:
        client.update_block_document(existing.id, BlockDocumentUpdate(data=data))
        return existing.id
    kind = client.read_block_type_by_slug("webhook")
    schema = client.read_block_schema_by_checksum(Webhook._calculate_schema_checksum())
    made = BlockDocumentCreate(
        name=WEBHOOK_BLOCK, data=data, block_type_id=kind.id, block_schema_id=schema.id
    )
    return client.create_block_document(made).id
