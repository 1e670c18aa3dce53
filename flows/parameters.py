"""Parameters that the flows share: flat, typed, checked before anything runs, shown as a form."""

from datetime import UTC, datetime
from typing import Annotated, Any

from prefect import runtime
from pydantic import Field

PipelineName = Annotated[
    str,
    Field(
        description="Name of a pipeline that comes with featlas, or the path of a pipeline file",
        pattern=r"^[A-Za-z0-9_./ -]{1,400}$",
        examples=["demo"],
    ),
]
Catalogue = Annotated[
    str,
    Field(
        description="Folder of the catalogue; empty for FEATLAS_CATALOG of the worker, else ./catalogue",
        pattern=r"^[A-Za-z0-9_./ ~-]{0,400}$",
    ),
]
Force = Annotated[bool, Field(description="Recompute the named stages (all, if none is named) though done")]
Override = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+=.{0,2000}$")]
Overrides = Annotated[
    list[Override], Field(description="Settings to change, each as path=value: dictionaries.0.k=16")
]


def run_name(flow: str, subject: str | None = None) -> str:
    """What a run is called: flow, what it works on, and the UTC minute it was due."""
    parameters: dict[str, Any] = runtime.flow_run.parameters or {}
    about = subject if subject is not None else parameters.get("pipeline", "")
    due = runtime.flow_run.scheduled_start_time or datetime.now(UTC)
    return " ".join(part for part in (flow, str(about), f"{due:%Y-%m-%d %H:%M}") if part)
