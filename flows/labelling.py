"""Where labelling runs: in the run itself, or in a run of its own in the light pool.

A run of the heavy pool holds its only slot until it ends. Explaining and scoring with a language model waits
for an endpoint, possibly for hours, and needs no GPU. A run that a worker started therefore hands it over.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from prefect import runtime
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment

from flows.config import PipelineConfig
from flows.graph import Stage, named, with_needs
from flows.reports import Run
from flows.spine import run_stages

LABELLING = named("explain_features", "calibrate_judge", "score_explanations", "measure_floors")
DEPLOYMENT = "reexplain/on-demand"


def labels_elsewhere(config: PipelineConfig) -> bool:
    """Whether another run labels: a worker runs this one, and the labels need an endpoint."""
    endpoints = {one.endpoint_name for one in config.explain} | {one.endpoint_name for one in config.score}
    return runtime.deployment.id is not None and not endpoints <= {None}


def stages_here(config: PipelineConfig, stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages that the run computes itself: no labelling if a worker runs it and an endpoint labels."""
    chosen = with_needs(stages)
    return tuple(chosen.difference(LABELLING) if labels_elsewhere(config) else chosen)


def run_and_hand_over(
    run: Run,
    config: PipelineConfig,
    stages: Sequence[Stage],
    pipeline: str,
    overrides: Sequence[str] = (),
    *,
    yes: bool = False,
) -> None:
    """Walk the graph of a pipeline, and hand over to another run what waits for an endpoint."""
    here = stages_here(config, stages)
    run_stages(run, config, here, yes=yes)
    if set(here) != with_needs(stages):
        with run.branch(f"hand labelling of {config.name} over"):
            hand_over(run, DEPLOYMENT, {"pipeline": pipeline, "overrides": list(overrides)})


def hand_over(run: Run, deployment: str, parameters: Mapping[str, Any]) -> None:
    """Start the run that labels what is in the catalogue now; it skips what is not.

    Args:
        run: The run that hands over.
        deployment: Deployment of a flow with the parameter ``found_only``.
        parameters: Parameters of that flow without catalogue, ``force`` and ``found_only``.
    """
    attempt = f"{runtime.flow_run.id}-{runtime.flow_run.run_count}"
    started = run_deployment(
        deployment,
        parameters={
            **parameters,
            "catalogue": str(run.context.root),
            "force": bool(run.context.forced.intersection(LABELLING)),
            "found_only": True,
        },
        timeout=0,
        as_subflow=False,
        idempotency_key=f"labels-{attempt}-{parameters['pipeline']}",
    )
    labelling = cast(FlowRun, started)  # outside an event loop Prefect waits for it
    run.say(f"run {labelling.id} of {deployment} explains and scores")
