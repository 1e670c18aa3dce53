"""Read YAML, JSON and TOML files from other people: plain values, or an error in one sentence.

Every reader of such a file uses this module, so that all of them refuse the same things: a file that is too
large or not UTF-8 text, a repeated key, values that are nested too deeply or refer to themselves, and in YAML
whole numbers that no column can hold. A date in YAML becomes the text that was written. JSON keeps large
numbers, because tokenizer files of Transformers contain them.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from datetime import date, time
from pathlib import Path
from typing import Any

import yaml

from catalog.errors import UserError

LARGEST_BYTES = 2**24
"""Limit on the size of a configuration file; this module reads no weights or tokenizers."""
DEEPEST = 64
MOST_VALUES = 1_000_000
_INT64 = range(-(2**63), 2**63)
_LONGEST_REASON = 300
_TOO_DEEP = "its values are nested too deeply, or refer to themselves"


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML without dates and base-60 numbers; ``1e-4`` is a number; a key may occur once."""

    def fetch_flow_collection_start(self, token_class: type[yaml.Token]) -> None:
        if self.flow_level > DEEPEST:  # the time for deeper brackets grows with the square of the depth
            raise _Refused(_TOO_DEEP)
        super().fetch_flow_collection_start(token_class)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if name in seen:
                raise _Refused(f"line {key.start_mark.line + 1} writes {key.value!r} a second time")
            if name is not None:
                seen.add(name)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """The implicit types of YAML without dates, with numbers as in YAML 1.2."""
    left_out = ("timestamp", "int", "float")
    kept = {
        first: [rule for rule in rules if rule[0].rpartition(":")[2] not in left_out]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    number = {
        "int": re.compile(r"[-+]?(?:0|0b[01]+|0x[0-9a-fA-F]+|0o[0-7]+|[1-9][0-9_]*)\Z"),
        "float": re.compile(
            r"[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)\Z"
            r"|[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z"
        ),
    }
    for name, pattern in number.items():
        for first in "-+.0123456789":
            kept.setdefault(first, []).append((f"tag:yaml.org,2002:{name}", pattern))
    return kept


_Loader.yaml_implicit_resolvers = _resolvers()


class _Refused(ValueError):
    """A file that is well formed but not acceptable; the message is a clause."""


def read_yaml(path: Path) -> Any:
    """The value of a YAML file.

    Raises:
        UserError: when it cannot be read, is not YAML, or holds what `parse_yaml` refuses.
    """
    return parse_yaml(_text(path), str(path))


def parse_yaml(text: str, where: str) -> Any:
    """The plain value of a YAML text: mappings, lists, texts, numbers, true, false and null.

    Args:
        text: The text to parse.
        where: The name of the text in an error.

    Raises:
        UserError: when it is not YAML, repeats a key, is nested too deeply, or holds other types.
    """
    try:
        value = yaml.load(text, _Loader)  # noqa: S506 (a SafeLoader)
        _check(value, largest=_INT64)
    except _Refused as error:
        raise UserError(f"{where}: {error}") from None
    except RecursionError:
        raise UserError(f"{where} is nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(f"{where} is not valid YAML: {_reason(error)}") from None
    return value


def read_json_object(path: Path, remedy: str) -> dict[str, Any]:
    """The object of a JSON file.

    Args:
        path: The file.
        remedy: What to do about a damaged file, for example ``fetch the model again``.

    Raises:
        UserError: when it cannot be read, is not JSON, repeats a key or holds no object.
    """
    try:
        value = json.loads(_text(path), object_pairs_hook=_distinct)
        _check(value, largest=None)
    except _Refused as error:
        raise UserError(f"{path}: {error}: {remedy}") from None
    except RecursionError:
        raise UserError(f"{path} is nested too deeply: {remedy}") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({_reason(error)}): {remedy}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a JSON object: {remedy}")
    return value


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        UserError: when it cannot be read or is not TOML.
    """
    try:
        value = tomllib.loads(_text(path))
        _check(value, largest=_INT64)
    except _Refused as error:
        raise UserError(f"{path}: {error}") from None
    except RecursionError:
        raise UserError(f"{path} is nested too deeply") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid TOML: {_reason(error)}") from None
    return value


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path} cannot be read: {reason}") from None
    if len(content) > LARGEST_BYTES:
        raise UserError(f"{path} is larger than a configuration can be ({LARGEST_BYTES >> 20} MiB)")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise _Refused(f"{double!r} occurs twice in one object")
    return value


def _check(value: Any, *, largest: range | None) -> None:
    """Refuse a value that is too deep, too large with its references resolved, or not plain."""
    waiting = [(value, 0)]
    n_values = 0
    while waiting:
        part, depth = waiting.pop()
        n_values += 1
        if depth > DEEPEST or n_values > MOST_VALUES:
            raise _Refused(_TOO_DEEP)
        if isinstance(part, Mapping):
            waiting += [(inner, depth + 1) for pair in part.items() for inner in pair]
        elif isinstance(part, list):
            waiting += [(inner, depth + 1) for inner in part]
        elif isinstance(part, date | time | bytes) or not isinstance(part, str | int | float | bool | None):
            raise _Refused(f"{_reason(part)!r} is of the type {type(part).__name__}: write it as text")
        elif largest is not None and type(part) is int and part not in largest:
            raise _Refused(f"a whole number of {part.bit_length()} bits is larger than 64 bits can hold")


def _reason(value: object) -> str:
    text = " ".join(str(value).split()) or type(value).__name__
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"
