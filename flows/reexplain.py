"""Explain and score again after a changed prompt, another endpoint or a larger budget."""

from typing import Any

from prefect import flow

from flows.labelling import LABELLING
from flows.parameters import Catalogue, Override, PipelineName, run_name
from flows.pipeline import run_pipeline


@flow(name="reexplain", flow_run_name=lambda: run_name("reexplain"), persist_result=False)
def reexplain(
    pipeline: PipelineName,
    catalogue: Catalogue = "",
    force: bool = False,
    overrides: list[Override] = [],  # noqa: B006 (never changed)
    found_only: bool = False,
) -> dict[str, Any]:
    """Explain and score the features of a pipeline's dictionaries; find or compute what these need.

    Args:
        pipeline: Name of a pipeline that comes with featlas, or the path of a pipeline file
        catalogue: Folder of the catalogue; empty for FEATLAS_CATALOG of the worker, else ./catalogue
        force: Ask again even if nothing changed; answers in the prompt cache cost nothing
        overrides: Settings to change for this run, each as path=value: explain.0.endpoint=judge
        found_only: Label what is in the catalogue, and skip features that are not there yet
    """
    return run_pipeline(
        "reexplain", LABELLING, pipeline, catalogue, force=force, overrides=overrides, found_only=found_only
    )
