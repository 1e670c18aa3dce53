"""Measure a pipeline's dictionaries: reconstruction, fidelity, and the suites the pipeline names."""

from typing import Any

from prefect import flow

from catalog.ids import digest
from flows.config import Stage, load_pipeline
from flows.parameters import Catalogue, Override, PipelineName, run_name
from flows.reports import started_run
from flows.spine import run_stages

STAGES: tuple[Stage, ...] = ("evaluate_dictionary", "evaluate_suite")


@flow(name="evaluate", flow_run_name=lambda: run_name("evaluate"), persist_result=False)
def evaluate(
    pipeline: PipelineName,
    catalogue: Catalogue = "",
    force: bool = False,
    overrides: list[Override] = [],  # noqa: B006 (never changed)
) -> dict[str, Any]:
    """Measure the dictionaries of a pipeline; what this needs is found or computed.

    Args:
        pipeline: Name of a pipeline that comes with featlas, or the path of a pipeline file
        catalogue: Folder of the catalogue; empty for FEATLAS_CATALOG of the worker, else ./catalogue
        force: Measure again though it is done
        overrides: Settings to change for this run, each as path=value: evaluate=[{suite: first_letter}]
    """
    config = load_pipeline(pipeline, overrides)
    forced = frozenset(STAGES) if force else frozenset()
    with started_run("evaluate", config.name, catalogue, forced, digest(config.canonical())) as run:
        run_stages(run, config, STAGES)
    return run.result()
