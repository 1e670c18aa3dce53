"""The forecast before the first match: how many pairs a run matches, and for about how long."""

import logging
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from prefect import get_run_logger
from prefect.context import FlowRunContext

from catalog.ids import stage_fingerprint
from flows.board import duration
from flows.reports import Run
from tasks.common.progress import StageEvent
from tasks.matching.matcher import MatcherConfig
from tasks.support.match_units import STAGE, MatchUnit
from tasks.support.policies import stage_listener
from tasks.support.stored import stored_rows


def tell_forecast(run: Run, matchers: Sequence[MatcherConfig], units: Sequence[MatchUnit]) -> None:
    """Tell the terminal, the log and the summary of a run what the forecast says, one line a matcher."""
    logger = get_run_logger() if FlowRunContext.get() else logging.getLogger(__name__)
    is_forced = STAGE in run.context.forced
    for line in forecast(run.context.root, [one.matcher for one in matchers], units, is_forced=is_forced):
        logger.info("forecast of %s: %s", STAGE, line)
        stage_listener.get()(StageEvent(STAGE, line, "forecast"))
        run.facts.setdefault("forecast", []).append(f"{STAGE}: {line}")


def forecast(
    root: Path, matchers: Iterable[str], units: Sequence[MatchUnit], *, is_forced: bool = False
) -> list[str]:
    """For each matcher the number of pairs, and about how long those that are not in the catalogue take.

    Args:
        root: The catalogue; the median of its earlier matches with a matcher estimates the next ones.
        matchers: Names of matchers.
        units: Everything to match.
        is_forced: Whether pairs that are matched are matched again.
    """
    columns = ["fingerprint", "label", "seconds", "state"]
    runs = [row for row in stored_rows(root, "stage_runs", columns, stage=STAGE).to_pylist() if _counts(row)]
    done = set() if is_forced else {row["fingerprint"] for row in runs}
    lines = []
    for name in matchers:
        earlier = [float(row["seconds"]) for row in runs if str(row["label"]).startswith(f"{name} ")]
        lines.append(_line(name, [unit for unit in units if unit.config.matcher == name], done, earlier))
    return lines


def _line(name: str, units: Sequence[MatchUnit], done: Collection[str], earlier: Sequence[float]) -> str:
    if not units:
        return f"{name} compares no pair of those that pairs and with choose"
    n_left = sum(_fingerprint(unit) not in done for unit in units)
    said = f"{_pairs(len(units))} with {name}"
    if n_left < len(units):
        said += f", {len(units) - n_left:,} in the catalogue"
    if not n_left:
        return said
    if not earlier:
        return f"{said}; {_pairs(n_left)} to match, for an unknown time: none was matched with {name} yet"
    each = median(earlier)
    return (
        f"{said}; {_pairs(n_left)} to match, in about {duration(n_left * each)} at {duration(each)} a pair "
        f"(median of {len(earlier):,} earlier)"
    )


def _pairs(n: int) -> str:
    return "1 pair" if n == 1 else f"{n:,} pairs"


def _counts(row: dict[str, Any]) -> bool:
    return bool(row["state"] == "committed")


def _fingerprint(unit: MatchUnit) -> str:
    key = unit.key
    return stage_fingerprint(key.stage, key.version, key.config, key.parents, key.prompt_digests)
