"""Configuration of the dictionaries that take no gradient steps: fitted in one go, or imported alone.

They have no settings of gradient steps. Up to version 0.1 they had, and refused every value but the default.
Configurations of that form stand in catalogues and are part of fingerprints. Therefore what is written still
names those settings at the values they always had, and what is read may name them at these values.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator

from tasks.dictionaries.config import DictionaryConfig

STEPS_OF_A_FIT: Mapping[str, Any] = MappingProxyType(
    {
        "data_seed": 0,
        "n_tokens": None,
        "batch_tokens": 2048,
        "micro_batch_tokens": None,
        "lr": None,
        "warmup_steps": 1000,
        "decay_share": 0.2,
        "decay": "linear",
        "beta1": 0.9,
        "beta2": 0.999,
        "clip_norm": 1.0,
        "normalisation": "dataset_rms",
        "bias_start": "geometric_median",
        "token_norm": "none",
        "dead_after_tokens": None,
        "resample_every_tokens": None,
        "buffer_tokens": 262_144,
        "block_sequences": 8,
    }
)
"""What a fitted dictionary of version 0.1 says of gradient steps, in order; fields of the same name win."""
STEPS_OF_AN_IMPORT: Mapping[str, Any] = MappingProxyType({**STEPS_OF_A_FIT, "normalisation": "none"})
"""The same of one that was imported."""


class WithoutSteps(DictionaryConfig):
    """Shared by the architectures that take no gradient steps here."""

    comes_to_be: ClassVar[Literal["fitted", "imported"]] = "fitted"
    steps_written: ClassVar[Mapping[str, Any]] = STEPS_OF_A_FIT

    @model_validator(mode="before")
    @classmethod
    def _leave_out_steps(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        known = {**cls.steps_written, "init_from": None}
        steps = {name: value for name, value in known.items() if name not in cls.model_fields}
        for name, value in steps.items():
            if name in values and values[name] != value:
                kind = f"{values.get('architecture', cls.__name__)} is {cls.comes_to_be}"
                raise ValueError(f"{kind}, not trained by steps: leave {name} out")
        return {name: value for name, value in values.items() if name not in steps}

    @model_serializer(mode="wrap")
    def _with_steps(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        own: dict[str, Any] = write(self)
        identity = {name: own[name] for name in DictionaryConfig.model_fields if name in own}
        return {**identity, **self.steps_written, **own}
