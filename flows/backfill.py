"""Bring a catalogue up to date with every pipeline: after a new stage version, or an empty restart."""

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from catalog.ids import digest
from flows.config import Stage, load_pipeline, pipeline_names
from flows.parameters import Catalogue, Force, PipelineName, run_name
from flows.reports import publish_summary, started_run
from flows.spine import NEEDS, run_stages

Pipelines = Annotated[
    list[PipelineName], Field(description="Pipelines to bring up to date, in this order; none means all")
]
Stages = Annotated[list[Stage], Field(description="Only these stages and what they need; none means all")]


@flow(name="backfill", flow_run_name=lambda: run_name("backfill"), persist_result=False)
def backfill(
    pipelines: Pipelines = [],  # noqa: B006
    catalogue: Catalogue = "",
    stages: Stages = [],  # noqa: B006
    force: Force = False,
) -> dict[str, Any]:
    """Compute what is missing for several pipelines; one that fails does not stop the next."""
    forced = frozenset(stages or NEEDS) if force else frozenset()
    names = list(pipelines) or pipeline_names()
    configs = [load_pipeline(name) for name in names]
    config_digest = digest([config.canonical() for config in configs])
    with started_run("backfill", None, catalogue, forced, config_digest) as run:
        for config in configs:
            with run.branch(f"pipeline {config.name}"):
                run_stages(run, config, stages)
        publish_summary(run)
    return run.summary()
