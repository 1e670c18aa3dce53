"""Parameters that the flows share: flat, typed, checked before any work.

Prefect shows them as a form; the help text of a field is in the ``Args`` section of the flow's docstring.
"""

import os
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from prefect import Flow, runtime
from prefect.utilities.callables import parameter_schema
from pydantic import Field

from catalog.settings import catalogue_root
from tasks.support.policies import StageContext

PipelineName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,400}$", examples=["demo"])]
Catalogue = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{0,400}$")]
Override = Annotated[str, Field(pattern=r"^[^=\x00]+=[^\x00]{0,2000}$", examples=["dictionaries.0.k=16"])]
FilePath = Annotated[str, Field(min_length=1, max_length=4000)]


def form(flow: Flow[Any, Any]) -> dict[str, Any]:
    """The JSON schema of a flow's parameters; it refuses a parameter that the flow does not have."""
    return {**parameter_schema(flow).model_dump_for_openapi(), "additionalProperties": False}


def run_name(flow: str, subject: str | None = None) -> str:
    """The name of a run: as a person named it, else flow, subject and the UTC minute when it was due."""
    given = str(runtime.flow_run.name or "")
    if given and not is_generated(given):
        return given
    parameters: dict[str, Any] = runtime.flow_run.parameters or {}
    about = subject if subject is not None else Path(str(parameters.get("pipeline", ""))).stem
    due = runtime.flow_run.scheduled_start_time or datetime.now(UTC)
    return " ".join(part for part in (flow, about, f"{due:%Y-%m-%d %H:%M}") if part)


def is_generated(name: str) -> bool:
    """Whether Prefect generated the name: two words of its word lists, such as ``eager-lemur``."""
    words = name.split("-")
    return len(words) > 1 and _made_up_words().issuperset(words)


@cache
def _made_up_words() -> frozenset[str]:
    """All words of the lists from which Prefect generates names."""
    lists = [file for file in files("coolname").joinpath("data").iterdir() if file.name.endswith(".txt")]
    lines = [line for file in lists for line in file.read_text(encoding="utf-8").splitlines()]
    words = [line.replace("-", " ").split() for line in lines if not line.startswith("#") and "=" not in line]
    return frozenset(word for line in words for word in line)


def stage_context(
    catalogue: str, run_id: str, forced: frozenset[str], only: frozenset[str] | None
) -> StageContext:
    """What the stages of a run share; device and checkpoint interval come from the environment."""
    return StageContext(
        root=catalogue_root(catalogue or None),
        run_id=run_id,
        forced=forced,
        only=only,
        device=os.environ.get("FEATLAS_DEVICE", "auto"),
        checkpoint_seconds=float(os.environ.get("FEATLAS_CHECKPOINT_SECONDS", "15")),
    )
