"""Match the features of a pipeline's models with each other."""

from typing import Any

from prefect import flow

from flows.graph import Stage
from flows.parameters import Catalogue, Override, PipelineName, run_name
from flows.pipeline import run_pipeline

STAGES: tuple[Stage, ...] = ("match_features",)


@flow(name="match-models", flow_run_name=lambda: run_name("match"), persist_result=False)
def match_models(
    pipeline: PipelineName,
    catalogue: Catalogue = "",
    force: bool = False,
    overrides: list[Override] = [],  # noqa: B006 (never changed)
    yes: bool = False,
) -> dict[str, Any]:
    """Match the features of a pipeline's dictionaries across models; find or compute what this needs.

    Args:
        pipeline: Name of a pipeline that comes with featlas, or the path of a pipeline file
        catalogue: Folder of the catalogue; empty for FEATLAS_CATALOG of the worker, else ./catalogue
        force: Match again even if it is done
        overrides: Settings to change for this run, each as path=value: match.0.n_shifts=1000
        yes: Match even if globs of the pipeline give more than 1,000 pairs
    """
    return run_pipeline(
        "match-models", STAGES, pipeline, catalogue, force=force, overrides=overrides, yes=yes
    )
