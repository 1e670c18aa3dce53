"""Configurations take values as they are written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from tasks.common.config import StrictConfig


class Inner(StrictConfig):
    """Inner."""

    n: int = 1


class Every(StrictConfig):
    """One field of each kind."""

    n: int = 1
    n_or_none: int | None = None
    share: float = 0.5
    flag: bool = False
    name: str = "x"
    path: Path = Path("x")
    several: tuple[int, ...] = ()
    by_name: Mapping[str, int] = Field(default_factory=dict)
    inner: Inner = Inner()


@pytest.mark.parametrize(
    "values",
    [
        {"n": True},
        {"n": 8.0},
        {"n": "8"},
        {"n_or_none": True},
        {"n_or_none": "8"},
        {"share": True},
        {"share": "0.5"},
        {"flag": 1},
        {"flag": "yes"},
        {"name": 3},
        {"name": True},
        {"several": [1, True]},
        {"several": [1.0]},
        {"by_name": {"a": True}},
        {"inner": {"n": True}},
    ],
)
def test_a_value_of_another_type_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Every.model_validate(values)


def test_values_as_they_come_from_yaml_are_taken() -> None:
    values = {"n": 2, "share": 1, "flag": True, "path": "a/b", "several": [1, 2], "by_name": {"a": 1}}
    config = Every.model_validate({**values, "inner": {"n": 3}})
    assert (config.share, config.several, config.path) == (1.0, (1, 2), Path("a/b"))
    assert Every.model_validate(config.canonical()) == config


def _configs() -> list[type[StrictConfig]]:
    from flows import config  # noqa: F401 (so that every configuration is known)
    from tasks.autointerp.explainer import EXPLAINERS
    from tasks.autointerp.scorer import SCORERS
    from tasks.dictionaries.base import ARCHITECTURES

    for registry in (ARCHITECTURES, EXPLAINERS, SCORERS):
        registry.names()
    found: list[type[StrictConfig]] = []
    waiting = [StrictConfig]
    while waiting:
        waiting += (subclasses := waiting.pop().__subclasses__())
        found += subclasses
    return sorted({one for one in found if one.__module__.startswith(("tasks.", "flows."))}, key=repr)


def _numbers(annotation: Any) -> set[type]:
    if get_origin(annotation) is Annotated:
        return _numbers(get_args(annotation)[0])
    inner = [kind for part in get_args(annotation) for kind in _numbers(part)]
    return {annotation} if annotation in (int, float, bool) else set(inner)


@pytest.mark.parametrize("config", _configs(), ids=lambda config: config.__qualname__)
def test_no_number_of_any_configuration_may_be_written_otherwise(config: type[StrictConfig]) -> None:
    for name, field in config.model_fields.items():
        for kind in _numbers(field.annotation) - {bool}:
            if bool in _numbers(field.annotation):
                continue
            with pytest.raises(ValidationError) as caught:
                config.model_validate({name: True})
            assert any(fault["loc"][:1] == (name,) for fault in caught.value.errors()), (name, kind)


def test_a_number_in_a_union_is_strict_too() -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Every).validate_python({"n_or_none": 1.0})
