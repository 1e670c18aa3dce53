"""The nightly flow: all stages of one pipeline."""

from typing import Any

from prefect import flow

from catalog.ids import digest
from flows.config import load_pipeline
from flows.drift import raise_alarms
from flows.graph import NEEDS, Stage
from flows.labelling import run_and_hand_over
from flows.parameters import Catalogue, Override, PipelineName, run_name
from flows.reports import started_run


@flow(name="nightly", flow_run_name=lambda: run_name("nightly"), persist_result=False)
def nightly(
    pipeline: PipelineName,
    catalogue: Catalogue = "",
    stages: list[Stage] = [],  # noqa: B006 (never changed; None would make the form offer two types)
    force: bool = False,
    overrides: list[Override] = [],  # noqa: B006
    yes: bool = False,
) -> dict[str, Any]:
    """Run every stage of a pipeline: reuse what is in the catalogue, compute the rest.

    If a worker starts it, it hands labelling with an endpoint over to a run of `reexplain/on-demand`.

    Args:
        pipeline: Name of a pipeline that comes with featlas, or the path of a pipeline file
        catalogue: Folder of the catalogue; empty for FEATLAS_CATALOG of the worker, else ./catalogue
        stages: Only these stages and what they need; empty for all
        force: Recompute the named stages (all, if none is named) even if they are done
        overrides: Settings to change for this run, each as path=value: dictionaries.0.k=16
        yes: Match even if globs of the pipeline give more than 1,000 pairs
    """
    config = load_pipeline(pipeline, overrides)
    forced = frozenset(stages or NEEDS) if force else frozenset()
    with started_run("nightly", config.name, catalogue, forced, digest(config.canonical())) as run:
        run_and_hand_over(run, config, stages, pipeline, overrides, yes=yes)
        with run.branch("alarms"):
            raise_alarms(run)
    return run.result()
