"""Who labels: the run itself, or a run of its own in the light pool while the next one has the GPU.

A run of the heavy pool holds its only slot until it ends. Explaining and scoring with a language model wait
for an endpoint, for hours if it says so, and need no GPU; so a run that a worker started hands them over.
"""

from collections.abc import Sequence

from prefect import runtime
from prefect.deployments import run_deployment

from flows.config import PipelineConfig, Stage
from flows.reports import Run
from flows.spine import run_stages, with_needs

LABELLING: tuple[Stage, ...] = ("explain_features", "score_explanations")
DEPLOYMENT = "reexplain/on-demand"


def stages_here(config: PipelineConfig, stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages that the run computes itself: no labelling where a worker runs it and an endpoint labels."""
    chosen = with_needs(stages)
    asks = any(one.endpoint_name for one in (*config.explain, *config.score))
    if runtime.deployment.id is None or not asks:
        return tuple(chosen)
    return tuple(chosen.difference(LABELLING))


def run_and_hand_over(
    run: Run, config: PipelineConfig, stages: Sequence[Stage], pipeline: str, overrides: Sequence[str] = ()
) -> None:
    """Walk the graph of a pipeline, and leave to another run what waits for an endpoint."""
    here = stages_here(config, stages)
    run_stages(run, config, here)
    if set(here) != with_needs(stages):
        with run.branch(f"hand labelling of {config.name} over"):
            hand_over(run, pipeline, overrides)


def hand_over(run: Run, pipeline: str, overrides: Sequence[str]) -> None:
    """Start the run that labels what is in the catalogue now; it leaves out what is not."""
    attempt = f"{runtime.flow_run.id}-{runtime.flow_run.run_count}"
    labelling = run_deployment(
        DEPLOYMENT,
        parameters={
            "pipeline": pipeline,
            "catalogue": str(run.context.root),
            "force": bool(run.context.forced.intersection(LABELLING)),
            "overrides": list(overrides),
            "found_only": True,
        },
        timeout=0,
        as_subflow=False,
        idempotency_key=f"labels-{attempt}-{pipeline}",
    )
    run.say(f"explaining and scoring go on in run {labelling.id} of {DEPLOYMENT}")
