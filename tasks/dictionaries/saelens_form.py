"""How a dictionary is named and laid out in a SAELens folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SaelensForm:
    """The architecture of SAELens that encodes as a dictionary does."""

    name: str
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Tensors that have another name there."""
    left_out: tuple[str, ...] = ()
    """Tensors that it does not have."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of ``cfg.json`` that only this architecture has."""


THRESHOLDS = SaelensForm("jumprelu")
"""A latent fires above its threshold: also what BatchTopK and its relatives do outside training."""
