"""Checks of foreign configurations: no key that changes the arithmetic is ignored silently.

A reader lists the keys that it reads, those that are known and have no effect (training, bookkeeping), and
those with values that it cannot follow. For a key in none of these lists the name decides: if it concerns the
arithmetic, the key is refused unless its value is neutral; any other key is reported.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catalog.errors import UserError

logger = logging.getLogger(__name__)

_ARITHMETIC = re.compile(
    r"scal|norm|activation_fn|postact|preact|thresh|bias|cent(?:er|re)|mean|std|signed|abs|gate|topk|top_k|"
    r"whiten|rotat|transform|temperature|clamp|clip|tanh|relu|rescale|offset|subtract|multipl|tied"
)
_NEUTRAL: tuple[object, ...] = (None, False, "", "none", "None", 0, 1, [], {})


@dataclass(frozen=True)
class Keys:
    """Keys of one format's configuration."""

    read: frozenset[str]
    """Keys that the reader follows."""
    harmless: frozenset[str] = frozenset()
    """Keys that have no effect on how the dictionary encodes and decodes."""
    allowed: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    """Values that the reader supports, for keys of which it does not support all."""


def check_keys(where: Path | str, config: Mapping[str, Any], keys: Keys) -> None:
    """Refuse a configuration with a setting for the arithmetic that the reader does not follow.

    Raises:
        UserError: naming the key and its value.
    """
    unknown: list[str] = []
    for name, value in config.items():
        if name in keys.allowed:
            if not _is_one_of(value, keys.allowed[name]):
                known = ", ".join(repr(one) for one in keys.allowed[name])
                raise UserError(f"{where}: featlas cannot read {name} {_shown(value)}; it reads {known}")
        elif name in keys.read or name in keys.harmless or _is_one_of(value, _NEUTRAL):
            continue
        elif _ARITHMETIC.search(name.lower()):
            raise UserError(
                f"{where}: featlas does not know the setting {name}: {_shown(value)}, which may change how "
                "the dictionary encodes: remove it from the file if it does not"
            )
        else:
            unknown.append(name)
    if unknown:
        logger.warning("%s: settings that featlas does not know are left out: %s", where, ", ".join(unknown))


def report_tensors(where: Path | str, names: Iterable[str], known: Iterable[str]) -> None:
    """Report the tensors of a file that are not read."""
    unread = sorted(set(names) - set(known))
    if unread:
        logger.warning("%s: tensors that featlas does not know are left out: %s", where, ", ".join(unread))


def check_sizes(where: Path | str, config: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    """Refuse a configuration whose sizes are not those of the tensors; ``sizes`` is by key.

    Raises:
        UserError: naming both numbers.
    """
    for name, size in sizes.items():
        said = whole(where, config, name)
        if said is not None and said != size:
            raise UserError(
                f"{where} says {name} {said}, the tensors have {size}: the files belong to different "
                "dictionaries"
            )


def whole(where: Path | str, config: Mapping[str, Any], name: str) -> int | None:
    """A whole number; None if there is none.

    Raises:
        UserError: for anything else: ``true`` is not 1.
    """
    value = config.get(name)
    if value is None or type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise UserError(f"{where}: {name} is {_shown(value)}, not a whole number")


def flag(where: Path | str, config: Mapping[str, Any], name: str, default: bool) -> bool:
    """True or false.

    Raises:
        UserError: for anything else: ``"false"`` is not false.
    """
    value = config.get(name)
    if value is None:
        return default
    if isinstance(value, bool):
        return value
    raise UserError(f"{where}: {name} is {_shown(value)}, neither true nor false")


def _is_one_of(value: object, allowed: Iterable[object]) -> bool:
    """Equality that distinguishes true from 1."""
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
