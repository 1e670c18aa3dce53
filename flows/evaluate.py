"""Measure a pipeline's dictionaries: reconstruction, fidelity, and the suites the pipeline names."""

from typing import Any

from prefect import flow

from flows.graph import named
from flows.parameters import Catalogue, Override, PipelineName, run_name
from flows.pipeline import run_pipeline

STAGES = named("evaluate_dictionary", "evaluate_suite")


@flow(name="evaluate", flow_run_name=lambda: run_name("evaluate"), persist_result=False)
def evaluate(
    pipeline: PipelineName,
    catalogue: Catalogue = "",
    force: bool = False,
    overrides: list[Override] = [],  # noqa: B006 (never changed)
) -> dict[str, Any]:
    """Measure the dictionaries of a pipeline; find or compute what this needs.

    Args:
        pipeline: Name of a pipeline that comes with featlas, or the path of a pipeline file
        catalogue: Folder of the catalogue; empty for FEATLAS_CATALOG of the worker, else ./catalogue
        force: Measure again even if it is done
        overrides: Settings to change for this run, each as path=value: evaluate=[{suite: first_letter}]
    """
    return run_pipeline("evaluate", STAGES, pipeline, catalogue, force=force, overrides=overrides)
