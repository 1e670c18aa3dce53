"""Changes to a pipeline file for one run, and the first thing that is wrong in it as one clause."""

from typing import Any

from pydantic import ValidationError

from catalog.errors import UserError
from tasks.common.plain_files import parse_yaml

_DIGITS = 10


def set_value(values: dict[str, Any], override: str) -> None:
    """Apply one override such as ``dictionaries.0.k=16``; the value is read as YAML.

    Raises:
        UserError: when the override has another form or names an unknown setting.
    """
    place, separator, text = override.partition("=")
    keys = place.split(".")
    if not separator or not all(keys):
        raise UserError(f"--set {override!r} is not of the form path=value, for example dictionaries.0.k=16")
    value = parse_yaml(text, f"the value of --set {place}")
    target: Any = values
    for depth, key in enumerate(keys):
        is_last = depth == len(keys) - 1
        where = ".".join(keys[: depth + 1])
        if isinstance(target, list):
            if not (key.isascii() and key.isdigit() and len(key) < _DIGITS and int(key) < len(target)):
                raise UserError(f"--set {override!r}: there is no {where!r} in the pipeline")
            if is_last:
                target[int(key)] = value
            target = target[int(key)]
        elif isinstance(target, dict):
            if is_last:
                target[key] = value
            target = target.setdefault(key, {})
        else:
            raise UserError(f"--set {override!r}: {'.'.join(keys[:depth])!r} holds no settings to change")


def first_fault(error: ValidationError) -> str:
    """The first error of a validation as one clause: its place, then what is wrong."""
    place: list[str] = []
    while True:
        fault = error.errors(include_url=False)[0]
        place += [str(part) for part in fault["loc"]]
        cause = fault.get("ctx", {}).get("error")
        if not isinstance(cause, ValidationError):
            break
        error = cause
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "missing":
        message = "is missing and has no default"
    return f"{'.'.join(place)}: {message}" if place else message
