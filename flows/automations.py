"""Automations of the Prefect server: they bring killed runs back, and tell a webhook what went wrong."""

import os
from datetime import timedelta
from uuid import UUID

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import BlockDocumentCreate, BlockDocumentUpdate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState, DoNothing
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound

WEBHOOK_VARIABLE = "FEATLAS_WEBHOOK_URL"
WEBHOOK_BLOCK = "featlas-alerts"
ZOMBIE_SECONDS = 90
QUIET_SECONDS = 30
FRESH_HOURS = 26


def automations_wanted(pools: list[str], webhook: UUID | None) -> list[AutomationCore]:
    """Every automation that featlas keeps on a server; alerts call the webhook if there is one."""
    return [*recoveries(pools), *alerts(pools, webhook)]


def _of_pools(pools: list[str]) -> ResourceSpecification:
    """What is related to one of our work pools."""
    return ResourceSpecification(
        root={"prefect.resource.role": "work-pool", "prefect.resource.name": list(pools)}
    )


def _of(kind: str) -> ResourceSpecification:
    return ResourceSpecification(root={"prefect.resource.id": f"prefect.{kind}.*"})


def recoveries(pools: list[str]) -> list[AutomationCore]:
    """The two automations that bring a killed run back without a hand.

    A run whose heartbeat stops is declared crashed. A crashed run of a work pool that stays quiet for a
    while is started again: the quiet time lets the worker's own late crash report pass, which would
    otherwise kill the new attempt.
    """
    endings = {"Completed", "Failed", "Crashed", "Cancelled", "Cancelling", "Paused", "Suspended"}
    zombie = EventTrigger(
        posture=Posture.Proactive,
        match=_of("flow-run"),
        match_related=_of_pools(pools),
        for_each={"prefect.resource.id"},
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{state}" for state in endings)},
        threshold=1,
        within=timedelta(seconds=ZOMBIE_SECONDS),
    )
    resume = EventTrigger(
        posture=Posture.Proactive,
        match=_of("flow-run"),
        match_related=_of_pools(pools),
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


def alerts(pools: list[str], webhook: UUID | None) -> list[AutomationCore]:
    """What a person wants to be told: a run failed or is late, a pool has no worker, nothing new for a day.

    Without a webhook they fire all the same and are seen in the event feed of the Prefect UI.
    """
    named_pools = ResourceSpecification(
        root={"prefect.resource.id": "prefect.work-pool.*", "prefect.resource.name": list(pools)}
    )
    failed = EventTrigger(
        posture=Posture.Reactive,
        match=_of("flow-run"),
        match_related=_of_pools(pools),
        for_each={"prefect.resource.id"},
        expect={"prefect.flow-run.Failed"},
        threshold=1,
    )
    late = failed.model_copy(update={"expect": {"prefect.flow-run.Late"}})
    not_ready = EventTrigger(
        posture=Posture.Reactive,
        match=named_pools,
        for_each={"prefect.resource.id"},
        expect={"prefect.work-pool.not-ready"},
        threshold=1,
    )
    nothing_fresh = EventTrigger(
        posture=Posture.Proactive,
        match=_of("flow-run"),
        match_related=ResourceSpecification(
            root={"prefect.resource.role": "flow", "prefect.resource.name": "nightly"}
        ),
        for_each={"related:deployment:prefect.resource.id"},
        after={"prefect.flow-run.Scheduled", "prefect.flow-run.Completed"},
        expect={"prefect.flow-run.Completed"},
        threshold=1,
        within=timedelta(hours=FRESH_HOURS),
    )
    wanted = {
        "a run failed": (
            "a run ended as failed",
            failed,
            "flow_run.name ~ ' failed: ' ~ (flow_run.state.message or 'without a message')",
        ),
        "a run is late": ("a run was due and no worker took it", late, "flow_run.name ~ ' is late'"),
        "a pool is not ready": (
            "no worker polls a work pool",
            not_ready,
            "'no worker polls the work pool ' ~ work_pool.name",
        ),
        "nothing fresh": (
            f"a nightly deployment that ran before completed nothing for {FRESH_HOURS} hours",
            nothing_fresh,
            f"'no nightly run completed for {FRESH_HOURS} hours'",
        ),
    }
    return [
        AutomationCore(
            name=f"featlas: {name}",
            description=f"Tells the webhook {WEBHOOK_BLOCK}, if there is one: {description}",
            enabled=True,
            trigger=trigger,
            actions=[_call(webhook, text) if webhook else DoNothing()],
        )
        for name, (description, trigger, text) in wanted.items()
    ]


def _call(webhook: UUID, text: str) -> CallWebhook:
    """Post ``{"text": ...}``, as chat services read it; the server evaluates the expression ``text``."""
    return CallWebhook(
        block_document_id=webhook, payload="{\"text\": {{ ('featlas: ' ~ " + text + ") | tojson }}}"
    )


def put_webhook(client: SyncPrefectClient) -> UUID | None:
    """The webhook of the alerts: the one at ``FEATLAS_WEBHOOK_URL``, else the one put there before."""
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
