"""``featlas run``: a pipeline as a Prefect flow, in this process."""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from catalog.errors import UserError
from catalog.settings import catalogue_root
from flows.engine import connect_engine


def run_command(
    pipeline: str,
    catalogue: str | None,
    stages: Sequence[str],
    overrides: Sequence[str],
    *,
    force: bool,
    as_json: bool,
) -> int:
    """Run a pipeline and print what it did; 0 only if every stage completed, 1 if one failed.

    Raises:
        UserError: for an unknown pipeline, stage or setting, before anything runs.
    """
    from flows.config import load_pipeline, pipeline_path, stage_names
    from flows.preflight import check_models

    root = catalogue_root(catalogue)
    unknown = [stage for stage in stages if stage not in stage_names()]
    if unknown:
        raise UserError(f"there is no stage {unknown[0]!r}; stages are {', '.join(stage_names())}")
    check_models(load_pipeline(pipeline, overrides))
    name = (
        pipeline if "/" not in pipeline and not pipeline.endswith(".yaml") else str(pipeline_path(pipeline))
    )
    level = "INFO" if os.environ.get("FEATLAS_DEBUG") else "CRITICAL"  # errors are said once, at the end
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", level)
    connect_engine()
    summary = _run(name, str(root), stages, overrides, force=force, quiet=as_json)
    print(json.dumps(summary) if as_json else report(summary))
    return 0 if summary["state"] == "completed" else 1


def _run(
    name: str, root: str, stages: Sequence[str], overrides: Sequence[str], *, force: bool, quiet: bool
) -> dict[str, Any]:
    from flows.nightly import nightly
    from flows.reports import StagesFailed
    from flows.terminal import terminal_progress

    with terminal_progress() if not quiet and sys.stderr.isatty() else nullcontext():
        try:
            return nightly(name, root, list(stages), force, list(overrides))
        except StagesFailed as error:
            return error.summary


def report(summary: dict[str, Any]) -> str:
    """What a run did, line by line, for the terminal."""
    lines = [f"{summary['flow']} {summary['pipeline']}: {summary['state']} in {summary['seconds']:.1f} s"]
    for stage in summary["stages"]:
        n_rows = sum(stage["rows"].values())
        lines.append(
            f"  {stage['state']:<10} {stage['stage']:<20} {stage['label']:<60} "
            f"{n_rows:>9,} rows {stage['seconds']:>7.1f} s"
        )
    lines += [f"  FAILED     {failure}" for failure in summary["failures"]]
    lines += _landed(Path(summary["catalogue"]))
    lines += [
        f"{summary['n_recomputed']} stages recomputed, {summary['n_found']} found in {summary['catalogue']}",
        "next:",
        f'  featlas sql "select feature_index, label, score from feature_cards order by score desc limit 10" '
        f"--catalog {summary['catalogue']}",
        f"  featlas ui --catalog {summary['catalogue']}      the catalogue in the browser",
        f"  featlas up --catalog {summary['catalogue']}      the whole platform, with the nightly schedule",
    ]
    return "\n".join(lines)


def _landed(root: Path) -> list[str]:
    """What the catalogue holds now: a line per dictionary, with its quality and that of its labels."""
    from catalog.connection import connect
    from catalog.page_queries import dictionaries

    with connect(root) as connection:
        rows = dictionaries(connection).to_pylist()
    lines = []
    for row in (row for row in rows if row["is_current"]):
        figures = (
            f"{row['d_sae']:,} features, {row['n_alive'] or 0:,} alive, {row['n_labelled'] or 0:,} labelled, "
            f"{row['n_above_chance'] or 0:,} above chance"
        )
        quality = [
            f"{name} {row[column]:.3f}"
            for name, column in (("FVU", "fvu"), ("CE recovered", "ce_recovered"))
            if row[column] is not None
        ]
        lines.append(f"  {row['dictionary_id']}: {'; '.join([figures, *quality])}")
    return lines
