"""The base of every configuration: frozen, strict, documented below each field."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema

_SCALARS = ("bool", "float", "int", "str")


def _take_scalars_as_written(schema: Any) -> None:
    """Make every number, boolean and text of a schema strict; lists still become tuples."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if part.get("type") in _SCALARS:
                part["strict"] = True
            waiting += [inner for name, inner in part.items() if name != "metadata"]
        elif isinstance(part, list | tuple):
            waiting += part


class StrictConfig(BaseModel):
    """Frozen; unknown fields are refused; the sentence below a field is its help text.

    Values are not converted: ``true`` is not a number, ``"8"`` and ``8.0`` are not whole numbers, ``1`` is
    not a boolean. The only exception: a whole number may stand for a fraction.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        serialize_by_alias=True,
    )

    later_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that the canonical form holds only where they differ from the default, because earlier
    releases had none: so their fingerprints are still found."""
    routing_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that say where a unit of work runs and not what it computes: no fingerprint holds them."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        _take_scalars_as_written(schema)
        return schema

    @model_validator(mode="before")
    @classmethod
    def _name_known_fields(cls, values: Any) -> Any:
        """Refuse an unknown field with the list of the known ones."""
        if isinstance(values, Mapping):
            known = [field.alias or name for name, field in cls.model_fields.items()]
            unknown = [str(name) for name in values if name not in known]
            if unknown:
                raise ValueError(f"unknown field {', '.join(map(repr, unknown))}; known: {', '.join(known)}")
        return values

    def told_apart(self, name: str) -> str:
        """The value of the field ``name``, then every other field that differs from its default."""
        fields = type(self).model_fields
        values = self.canonical()
        defaults = {key: field.get_default(call_default_factory=True) for key, field in fields.items()}
        kept = [key for key in fields if key != name and key not in self.routing_fields]
        changed = (key for key in kept if getattr(self, key) != defaults[key])
        unusual = (fields[key].alias or key for key in changed)
        return " ".join([str(values[name]), *(f"{key}={values[key]}" for key in unusual)])

    def canonical(self) -> dict[str, Any]:
        """The configuration as plain JSON values: what a fingerprint reads.

        Defaults are included, except those of ``later_fields``; ``routing_fields`` are not.
        """
        values = self.model_dump(mode="json")
        for name in self.routing_fields & type(self).model_fields.keys():
            del values[type(self).model_fields[name].alias or name]
        for name in self.later_fields & type(self).model_fields.keys():
            field = type(self).model_fields[name]
            if getattr(self, name) == field.get_default(call_default_factory=True):
                del values[field.alias or name]
        return values
