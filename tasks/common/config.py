"""The base of every configuration: frozen, exact, documented under the field."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class StrictConfig(BaseModel):
    """Frozen; unknown fields are refused; the sentence under a field is its help text."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    def canonical(self) -> dict[str, Any]:
        """The configuration as plain JSON values, defaults included: what a fingerprint reads."""
        return self.model_dump(mode="json")
