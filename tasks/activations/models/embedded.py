"""The embedded language models: where they lie, and how they are related."""

from pathlib import Path
from typing import NamedTuple

from catalog.errors import UserError


class Kinship(NamedTuple):
    """The relatives of an embedded model. They belong to its weights, so no pipeline has to state them."""

    parent: str | None = None
    """Embedded model that it was tuned from."""
    series: tuple[str, int] | None = None
    """Name of the training that it is a checkpoint of, and the optimiser steps done."""


SERIES_STEPS: dict[str, tuple[int, ...]] = {"pico-a-retrained": (250, 500, 750, 1000, 1250, 1500, 1750, 2000)}
"""Trainings whose checkpoints are kept, with their steps."""


def checkpoint_name(series: str, step: int) -> str:
    """Id of a checkpoint."""
    return f"{series}-step-{step}"


_KINSHIP = {
    "pico-a": Kinship(),
    "pico-b": Kinship(),
    "pico-a-tuned": Kinship(parent="pico-a"),
} | {
    checkpoint_name(series, step): Kinship(series=(series, step))
    for series, steps in SERIES_STEPS.items()
    for step in steps
}
EMBEDDED_MODELS: tuple[str, ...] = tuple(_KINSHIP)
_FOLDER = Path(__file__).parents[1] / "embedded"


def embedded_model_path(name: str) -> Path:
    """Folder of an embedded model, in Transformers layout.

    Raises:
        UserError: for a name that is not one of `EMBEDDED_MODELS`.
    """
    if name not in EMBEDDED_MODELS:
        known = ", ".join(EMBEDDED_MODELS)
        raise UserError(f"embedded model {name!r} does not exist: choose one of {known}")
    return _FOLDER / name


def kinship(name: str) -> Kinship:
    """The relatives of an embedded model; of a name that is not one of them, none."""
    return _KINSHIP.get(name, Kinship())
