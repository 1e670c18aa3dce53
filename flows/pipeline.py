"""A run of some stages of a pipeline: what the flows of a stage list share."""

from collections.abc import Sequence
from typing import Any

from catalog.ids import digest
from flows.config import load_pipeline
from flows.graph import Stage
from flows.reports import started_run
from flows.spine import run_stages


def run_pipeline(
    flow: str,
    stages: Sequence[Stage],
    pipeline: str,
    catalogue: str,
    *,
    force: bool,
    overrides: Sequence[str],
    found_only: bool = False,
    yes: bool = False,
) -> dict[str, Any]:
    """Run stages of a pipeline and what they need.

    Args:
        flow: Name of the flow in the row of the run.
        stages: The stages wanted.
        pipeline: Name or path of the pipeline file.
        catalogue: Folder of the catalogue; empty for the default.
        force: Recompute ``stages`` though they are done.
        overrides: Settings to change for this run, each as path=value.
        found_only: Compute ``stages`` alone; what they need is found or left out.
        yes: Match even if the globs of ``with`` give more than 1,000 pairs.

    Returns:
        The result of the run, see `flows.reports.Run.result`.
    """
    config = load_pipeline(pipeline, overrides)
    forced = frozenset(stages) if force else frozenset()
    only = frozenset(stages) if found_only else None
    with started_run(flow, config.name, catalogue, forced, digest(config.canonical()), only) as run:
        run_stages(run, config, stages, yes=yes)
    return run.result()
