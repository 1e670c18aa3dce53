"""The base of every configuration: frozen, exact, documented under the field."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class StrictConfig(BaseModel):
    """Frozen; unknown fields are refused; the sentence under a field is its help text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _name_known_fields(cls, values: Any) -> Any:
        """Refuse an unknown field with the list of the known ones."""
        if isinstance(values, Mapping):
            unknown = [str(name) for name in values if name not in cls.model_fields]
            if unknown:
                known = ", ".join(cls.model_fields)
                raise ValueError(f"unknown field {', '.join(map(repr, unknown))}; known: {known}")
        return values

    def canonical(self) -> dict[str, Any]:
        """The configuration as plain JSON values, defaults included: what a fingerprint reads."""
        return self.model_dump(mode="json")
