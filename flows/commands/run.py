"""``featlas run``: run a pipeline as a Prefect flow in this process."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from catalog.errors import UserError
from catalog.settings import catalogue_root
from flows.commands.quality import above_chance
from flows.local import run_here
from flows.terminal import Style


def run_command(
    pipeline: str,
    catalogue: str | None,
    stages: Sequence[str],
    overrides: Sequence[str],
    *,
    force: bool,
    yes: bool,
    style: Style,
) -> int:
    """Run a pipeline and print what it did; return 0 only if every stage completed, 1 if one failed.

    Raises:
        UserError: for an unknown pipeline, stage or setting, before anything runs.
    """
    root = catalogue_root(catalogue)

    def check() -> None:
        from flows.config import load_pipeline
        from flows.graph import named, with_needs
        from flows.preflight import check_before

        try:
            chosen = with_needs(named(*stages))
        except ValueError as error:
            raise UserError(str(error)) from error
        check_before(load_pipeline(pipeline, overrides), root, chosen, yes=yes)

    def call() -> dict[str, Any]:
        from flows.config import pipeline_path
        from flows.graph import NEEDS
        from flows.nightly import nightly

        is_name = "/" not in pipeline and not pipeline.endswith(".yaml")
        name = pipeline if is_name else str(pipeline_path(pipeline))
        chosen = [stage for stage in NEEDS if stage in stages]
        return nightly(name, str(root), chosen, force, list(overrides), yes)

    return run_here(check, call, lambda summary: print_summary(summary, style), style)


def print_summary(summary: dict[str, Any], style: Style) -> None:
    """Print what a run did in the given style: one JSON object, lines, or only the failures."""
    if style.as_json:
        print(json.dumps(summary))
    elif style.verbosity >= 0:
        print(report(summary))
    else:
        print("\n".join(f"FAILED     {failure}" for failure in summary["failures"]), end="")


def report(summary: dict[str, Any]) -> str:
    """What a run did, as lines for the terminal."""
    lines = [f"{summary['flow']} {summary['pipeline']}: {summary['state']} in {summary['seconds']:.1f} s"]
    for stage in summary["stages"]:
        n_rows = sum(stage["rows"].values())
        lines.append(
            f"  {stage['state']:<10} {stage['stage']:<20} {stage['label']:<60} "
            f"{n_rows:>9,} rows {stage['seconds']:>7.1f} s"
        )
    lines += [f"  FAILED     {failure}" for failure in summary["failures"]]
    lines += [f"  left       {what}" for what in summary.get("left", ())]
    lines += [f"  ALARM      {alarm}" for alarm in summary.get("alarms", ())]
    if "ended" in summary:
        lines.append(f"ended by its budget: {summary['ended']}; run again to go on")
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
    from catalog.queries import dictionaries

    with connect(root) as connection:
        rows = dictionaries().read(connection).to_pylist()
    lines = []
    for row in (row for row in rows if row["is_current"]):
        figures = (
            f"{row['d_sae']:,} features, {row['n_alive'] or 0:,} alive, {row['n_labelled'] or 0:,} labelled, "
            f"{above_chance(row)}"
        )
        quality = [
            f"{name} {row[column]:.3f}"
            for name, column in (("FVU", "fvu"), ("CE recovered", "ce_recovered"))
            if row[column] is not None
        ]
        lines.append(f"  {row['dictionary_id']}: {'; '.join([figures, *quality])}")
    return lines
