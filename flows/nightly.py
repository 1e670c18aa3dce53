"""The nightly flow: all stages of one pipeline."""

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from catalog.ids import digest
from flows.config import Stage, load_pipeline
from flows.parameters import Catalogue, Force, Overrides, PipelineName, run_name
from flows.reports import publish_summary, started_run
from flows.spine import NEEDS, run_stages

Stages = Annotated[
    list[Stage],
    Field(description="Only these stages and what they need; none named means all"),
]


@flow(
    name="nightly", flow_run_name=lambda: run_name("nightly"), persist_result=False, validate_parameters=True
)
def nightly(
    pipeline: PipelineName = "demo",
    catalogue: Catalogue = "",
    stages: Stages = [],  # noqa: B006 (a default of None would make the form offer two types)
    force: Force = False,
    overrides: Overrides = [],  # noqa: B006
) -> dict[str, Any]:
    """Run every stage of a pipeline: what is in the catalogue already is found, the rest is computed."""
    config = load_pipeline(pipeline, overrides)
    forced = frozenset(stages or NEEDS) if force else frozenset()
    with started_run("nightly", config.name, catalogue, forced, digest(config.canonical())) as run:
        run_stages(run, config, stages)
        publish_summary(run)
    return run.summary()
