"""Parameters that the flows share: flat, typed, checked before anything runs.

Prefect shows them as a form; the help text of a field is the ``Args`` section of the flow's docstring.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from prefect import runtime
from pydantic import Field

PipelineName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_./ -]{1,400}$", examples=["demo"])]
Catalogue = Annotated[str, Field(pattern=r"^[A-Za-z0-9_./ ~-]{0,400}$")]
Override = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+=[^\n]{0,2000}$", examples=["dictionaries.0.k=16"])]


def run_name(flow: str, subject: str | None = None) -> str:
    """What a run is called: flow, what it works on, and the UTC minute it was due."""
    parameters: dict[str, Any] = runtime.flow_run.parameters or {}
    about = subject if subject is not None else Path(str(parameters.get("pipeline", ""))).stem
    due = runtime.flow_run.scheduled_start_time or datetime.now(UTC)
    return " ".join(part for part in (flow, about, f"{due:%Y-%m-%d %H:%M}") if part)
