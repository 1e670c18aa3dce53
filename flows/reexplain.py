"""Explain and score again: after a changed prompt, another endpoint, a raised budget."""

from typing import Any

from prefect import flow

from catalog.ids import digest
from flows.config import Stage, load_pipeline
from flows.parameters import Catalogue, Force, Overrides, PipelineName, run_name
from flows.reports import publish_summary, started_run
from flows.spine import run_stages

STAGES: tuple[Stage, ...] = ("explain_features", "score_explanations")


@flow(name="reexplain", flow_run_name=lambda: run_name("reexplain"), persist_result=False)
def reexplain(
    pipeline: PipelineName = "demo",
    catalogue: Catalogue = "",
    force: Force = False,
    overrides: Overrides = [],  # noqa: B006
) -> dict[str, Any]:
    """Explain and score the features of a pipeline's dictionaries; nothing is trained or mined anew."""
    config = load_pipeline(pipeline, overrides)
    forced = frozenset(STAGES) if force else frozenset()
    with started_run("reexplain", config.name, catalogue, forced, digest(config.canonical())) as run:
        run_stages(run, config, STAGES)
        publish_summary(run)
    return run.summary()
