"""Who labels: the run itself, or a run of its own in the light pool while the next one has the GPU.

A run of the heavy pool holds its only slot until it ends. Explaining and scoring with a language model wait
for an endpoint, for hours if it says so, and need no GPU; so a run that a worker started hands them over.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from prefect import runtime
from prefect.deployments import run_deployment

from flows.config import PipelineConfig, Stage
from flows.reports import Run
from flows.spine import run_stages, with_needs

LABELLING: tuple[Stage, ...] = ("explain_features", "score_explanations")
DEPLOYMENT = "reexplain/on-demand"


def labels_elsewhere(config: PipelineConfig) -> bool:
    """Whether another run labels: a worker runs this one, and an endpoint is asked."""
    asks = any(one.endpoint_name for one in (*config.explain, *config.score))
    return runtime.deployment.id is not None and asks


def stages_here(config: PipelineConfig, stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages that the run computes itself: no labelling where a worker runs it and an endpoint labels."""
    chosen = with_needs(stages)
    return tuple(chosen.difference(LABELLING) if labels_elsewhere(config) else chosen)


def run_and_hand_over(
    run: Run, config: PipelineConfig, stages: Sequence[Stage], pipeline: str, overrides: Sequence[str] = ()
) -> None:
    """Walk the graph of a pipeline, and leave to another run what waits for an endpoint."""
    here = stages_here(config, stages)
    run_stages(run, config, here)
    if set(here) != with_needs(stages):
        with run.branch(f"hand labelling of {config.name} over"):
            hand_over(run, DEPLOYMENT, {"pipeline": pipeline, "overrides": list(overrides)})


def hand_over(run: Run, deployment: str, parameters: Mapping[str, Any]) -> None:
    """Start the run that labels what is in the catalogue now; it leaves out what is not.

    Args:
        run: The run that is over then.
        deployment: Of a flow with the parameter ``found_only``.
        parameters: Of that flow, besides the catalogue, ``force`` and ``found_only``.
    """
    attempt = f"{runtime.flow_run.id}-{runtime.flow_run.run_count}"
    labelling = run_deployment(
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
    run.say(f"explaining and scoring go on in run {labelling.id} of {deployment}")
