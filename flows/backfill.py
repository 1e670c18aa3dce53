"""Bring a catalogue up to date for several pipelines, after a new stage version or in an empty catalogue."""

from typing import Any

from prefect import flow

from catalog.ids import digest
from flows.config import load_pipeline, pipeline_names
from flows.graph import NEEDS, Stage
from flows.labelling import run_and_hand_over
from flows.parameters import Catalogue, PipelineName, run_name
from flows.reports import started_run


@flow(name="backfill", flow_run_name=lambda: run_name("backfill", ""), persist_result=False)
def backfill(
    pipelines: list[PipelineName] = [],  # noqa: B006 (never changed)
    catalogue: Catalogue = "",
    stages: list[Stage] = [],  # noqa: B006
    force: bool = False,
    yes: bool = False,
) -> dict[str, Any]:
    """Compute what is missing for several pipelines; if one fails, the next still runs.

    Args:
        pipelines: Pipelines to bring up to date, in this order; empty for all that come with featlas
        catalogue: Folder of the catalogue; empty for FEATLAS_CATALOG of the worker, else ./catalogue
        stages: Only these stages and what they need; empty for all
        force: Recompute the named stages (all, if none is named) even if they are done
        yes: Match even if globs of a pipeline give more than 1,000 pairs
    """
    forced = frozenset(stages or NEEDS) if force else frozenset()
    configs = {name: load_pipeline(name) for name in pipelines or pipeline_names()}
    config_digest = digest([config.canonical() for config in configs.values()])
    with started_run("backfill", None, catalogue, forced, config_digest) as run:
        for name, config in configs.items():
            with run.branch(f"pipeline {config.name}"):
                run_and_hand_over(run, config, stages, name, yes=yes)
    return run.result()
